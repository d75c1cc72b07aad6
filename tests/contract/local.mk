# Contract tests: each clause against ours and, where it holds there too, against the reference program.

# the network helper (run-network runs them by hand, and writes docs/contract-network.md)
NETWORK_CONTRACT_TESTS = \
	tests/contract/network/n009-n049-command-line.py \
	tests/contract/network/n050-n058-help-version.py \
	tests/contract/network/n059-n071-namespaces.py \
	tests/contract/network/n072-n078-configure.py \
	tests/contract/network/n079-n093-link-services.py \
	tests/contract/network/n094-n100-dns.py \
	tests/contract/network/n101-n114-outbound.py \
	tests/contract/network/n115-n122-loopback-outbound-addr.py \
	tests/contract/network/n123-n127-ready-fd.py \
	tests/contract/network/n128-n137-exit-fd.py \
	tests/contract/network/n138-n145-signals.py \
	tests/contract/network/n146-n178-api.py \
	tests/contract/network/n179-n185-forwards.py \
	tests/contract/network/n186-n199-confinement.py \
	tests/contract/network/n200-n202-other-targets.py \
	tests/contract/network/n203-n205-output.py \
	tests/contract/network/n249-n264-leaks-and-spins.py \
	tests/contract/network/x-additions.py \
	tests/contract/network/x-survival.py \
	tests/contract/network/clients/buildah.py \
	tests/contract/network/clients/rootlesskit.py
TESTS += $(NETWORK_CONTRACT_TESTS)
EXTRA_DIST += $(NETWORK_CONTRACT_TESTS) \
	tests/contract/run-network tests/contract/network/untested.txt \
	tests/contract/lib/engineuser.py tests/contract/lib/frames.py tests/contract/lib/helperlab.py tests/contract/lib/netlab.py tests/contract/lib/tap.py
