# Benchmarks run from the source tree; nothing of them is built by make.
EXTRA_DIST += bench/benchlib.py bench/logs bench/logload.c bench/logread.c bench/netload.c bench/network bench/footprint bench/supervision
