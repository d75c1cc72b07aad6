# System tests: real Podman, as root and rootless; see run-bats.
SYSTEM_TESTS = \
	tests/system/podman-run.bats \
	tests/system/podman-logs.bats \
	tests/system/podman-journald.bats \
	tests/system/podman-attach.bats \
	tests/system/podman-network.bats \
	tests/system/podman-bridge.bats \
	tests/system/podman-nested.bats \
	tests/system/bad-input.bats \
	tests/system/survival.bats
TESTS += $(SYSTEM_TESTS) tests/system/systemd-units.py
EXTRA_DIST += $(SYSTEM_TESTS) tests/system/boot-systemd tests/system/systemd-units.py \
	scripts/lib.bash scripts/quickstart scripts/check \
	tests/system/engine-pipe.py tests/system/helpers.bash tests/system/isolate tests/system/peer.c tests/system/run-bats tests/system/terminal.py
