"""What the benchmarks share: programs under test, isolation, processor time, medians, tables, results."""
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
DEADLINE = 60  # seconds for anything that is waited for


def isolate():
    """Run again as root of namespaces of our own: ports, journal and processes are then ours alone."""
    if os.environ.get("TANDEM_ISOLATED") == "1":
        return
    if os.geteuid() != 0:
        sys.exit("%s: needs root, for namespaces of its own" % os.path.basename(sys.argv[0]))
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    wrap = os.path.join(TOP, "tests/system/isolate")
    os.execv(wrap, [wrap, "/usr/bin/python3", os.path.abspath(sys.argv[0])] + sys.argv[1:])


def program(name, variable, required=True):
    """A program of the build tree, or the one that the environment names."""
    build = os.environ.get("TANDEM_BUILDDIR", os.path.join(TOP, "build"))
    path = os.environ.get(variable) or os.path.join(build, name, name)
    if os.access(path, os.X_OK):
        return path
    if required:
        sys.exit("no %s at %s: build the tree there first (scripts/quickstart does), or set %s" % (name, path, variable))
    return None


def compile_static(name, directory):
    """One of our C programs, static, so that it runs in any root file system."""
    target = os.path.join(directory, name)
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-static", "-o", target, os.path.join(HERE, name + ".c"), "-lpthread"],
                   check=True)
    return target


def wait_until(condition, what, deadline=DEADLINE, step=0.002):
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("gave up waiting for " + what)
        time.sleep(step)


def read_file(path, default=""):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return default


def write_file(path, text):
    with open(path, "w") as f:
        f.write(text)


def parent_map():
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = read_file("/proc/%s/stat" % entry)
            if stat:
                parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def tree(pid, exe=None):
    """pid and its descendants; with exe only those that run it."""
    parents = parent_map()
    found = [pid]
    for one in found:
        found += [p for p, parent in parents.items() if parent == one and p not in found]
    if exe:
        found = [p for p in found if same_program(p, exe)]
    return found


def same_program(pid, exe):
    try:
        return os.path.realpath("/proc/%d/exe" % pid) == os.path.realpath(exe)
    except OSError:
        return False


def cpu_ns(pids):
    """Processor time that these processes (all threads) have had, in ns; the scheduler's figure, not in ticks."""
    total = 0
    for pid in pids:
        try:
            for task in os.listdir("/proc/%d/task" % pid):
                total += int(read_file("/proc/%d/task/%s/schedstat" % (pid, task), "0 0 0").split()[0])
        except OSError:
            pass
    return total


def pss_kib(pid):
    for line in read_file("/proc/%d/smaps_rollup" % pid).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def start_ready(argv, **options):
    """Start a program that says "ready" when it is."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options)
    if not select.select([child.stdout], [], [], DEADLINE)[0] or child.stdout.readline().strip() != "ready":
        child.kill()
        raise RuntimeError("did not get ready: " + " ".join(argv))
    return child


def stop(child):
    if child and child.poll() is None:
        child.send_signal(signal.SIGKILL)
    if child:
        child.wait()


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def ratio(a, b):
    return a / b if a is not None and b else None


def number(value, unit=""):
    if value is None:
        return "-"
    if value == float("inf"):
        text = "never"
    elif abs(value) >= 100:
        text = "%.0f" % value
    elif abs(value) >= 10:
        text = "%.1f" % value
    else:
        text = "%.2f" % value
    return text + unit


def table(head, rows):
    """Left column left, the others right."""
    rows = [[str(c) for c in row] for row in rows]
    widths = [max(len(r[i]) for r in [head] + rows) for i in range(len(head))]
    lines = []
    for row in [head, ["-" * w for w in widths]] + rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def progress(text):
    print(text, file=sys.stderr, flush=True)


def save(path, what, data):
    if not path:
        return
    data = {"benchmark": what, "kernel": platform.release(), "cores": os.cpu_count(),
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **data}
    with open(path, "w") as f:
        json.dump(data, f, indent=1, sort_keys=True)
        f.write("\n")
    progress("results in " + path)
