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
	tests/contract/network/x-hostile-frames.py \
	tests/contract/network/x-leak-curve.py \
	tests/contract/network/x-nested.py \
	tests/contract/network/x-protocol-examples.py \
	tests/contract/network/x-survival.py \
	tests/contract/network/clients/buildah.py \
	tests/contract/network/clients/docker.py \
	tests/contract/network/clients/rootlesskit.py
TESTS += $(NETWORK_CONTRACT_TESTS)
EXTRA_DIST += $(NETWORK_CONTRACT_TESTS) \
	tests/contract/run-network tests/contract/network/untested.txt \
	tests/contract/lib/engineuser.py tests/contract/lib/frames.py tests/contract/lib/helperlab.py tests/contract/lib/netlab.py tests/contract/lib/tap.py

# conmon (run-conmon runs them by hand, and writes docs/contract-conmon.md)
CONMON_CONTRACT_TESTS = \
	tests/contract/conmon/c001-c008-identity.py \
	tests/contract/conmon/c009-c017-grammar.py \
	tests/contract/conmon/c018-c023-validation.py \
	tests/contract/conmon/c024-c028-environment.py \
	tests/contract/conmon/c029-c040-process-model.py \
	tests/contract/conmon/c041-c051-descriptors-signals.py \
	tests/contract/conmon/c052-c067-sync-pipes.py \
	tests/contract/conmon/c068-c072-exec-attach.py \
	tests/contract/conmon/c073-c088-runtime.py \
	tests/contract/conmon/c089-c101-stdio.py \
	tests/contract/conmon/c102-c123-attach.py \
	tests/contract/conmon/attach-backlog.py \
	tests/contract/conmon/c124-c135-control.py \
	tests/contract/conmon/c136-c159-k8s-file.py \
	tests/contract/conmon/log-drivers.py \
	tests/contract/conmon/log-gaps.py \
	tests/contract/conmon/log-policies.py \
	tests/contract/conmon/log-rotation.py \
	tests/contract/conmon/log-syslog-tcp.py \
	tests/contract/conmon/c160-c169-rotation.py \
	tests/contract/conmon/c170-c178-journald.py \
	tests/contract/conmon/c179-c187-passthrough-oom.py \
	tests/contract/conmon/c188-c206-exit.py \
	tests/contract/conmon/c207-c213-notify.py \
	tests/contract/conmon/c214-c223-callers.py \
	tests/contract/conmon/protocol-examples.py \
	tests/contract/conmon/w-weaknesses.py \
	tests/contract/conmon/stress.py \
	tests/contract/conmon/x-confinement.py \
	tests/contract/conmon/x-limits.py \
	tests/contract/conmon/x-network-helper.py \
	tests/contract/conmon/x-state-file.py
TESTS += $(CONMON_CONTRACT_TESTS)
EXTRA_DIST += $(CONMON_CONTRACT_TESTS) \
	tests/contract/run-conmon tests/contract/conmon/untested.txt \
	tests/contract/lib/attachclient.py tests/contract/lib/conmonlab.py tests/contract/lib/fakert.py tests/contract/lib/journal.py \
	tests/contract/lib/k8slog.py tests/contract/lib/oci.py tests/contract/lib/processes.py
