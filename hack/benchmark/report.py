"""Medians, ratios and targets, as a table."""

import statistics

# Row -> at most so much of crun's median, at most so much of the floor's. Throughput is milliseconds a run: 2.2 times as
# many are 1 / 2.2 of the time.
TARGETS = {
    "a. run, default bundle": (0.40, 1.5),
    "b. run, Docker's bundle": (0.35, None),
    "c. create + start + delete": (0.40, 1.6),
    "d. exec": (0.40, 1.6),
    "e. state": (0.5, None),
    "e. list of {crowd}": (0.5, None),
    "f. kill + delete": (0.6, None),
    "h. run, 200 bind mounts": (0.5, None),
    "h. run, 256 masked paths": (0.5, None),
    "i. run, 8 at once": (1 / 2.2, None),
}
GROWTH = 1.1  # of g's last row of a kind against its first
RESIDENT = 0.5  # of k against crun


def figures_of(values):
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "q1": quartiles[0], "q3": quartiles[2], "least": min(values),
            "count": len(values)}


def summary(samples):
    return {row: {name: {what: figures_of([getattr(one, what) for one in spent]) for what in ("wall", "cpu")}
                  for name, spent in by_name.items()} for row, by_name in samples.items()}


def ratio(times, row, name, other, what="wall"):
    by_name = times.get(row, {})
    if name not in by_name or other not in by_name or not by_name[other][what]["median"]:
        return None
    return by_name[name][what]["median"] / by_name[other][what]["median"]


def judge(value, limit):
    """A ratio, and whether it is what is asked for."""
    if value is None:
        return "-"
    return f"{value:.2f}" if limit is None else f"{value:.2f} {'ok' if value <= limit else '>'} {limit:.2f}"


def targets(crowd):
    return {row.format(crowd=f"{crowd:,}"): limits for row, limits in TARGETS.items()}


def headline(report):
    """Rows of (workload, against crun, against runc, against the floor)."""
    asked = targets(report["crowd"])
    for row in report["times"]:
        if ": " in row:
            continue
        of_crun, of_floor = asked.get(row, (None, None))
        ratios = [ratio(report["times"], row, "tare", other) for other in ("crun", "runc", "floor")]
        yield row, judge(ratios[0], of_crun), judge(ratios[1], None), judge(ratios[2], of_floor)


def growth(report):
    """Rows of (what there is, our median against that with none of it)."""
    first = {}
    for row, by_name in report["times"].items():
        if not row.startswith("g. ") or "tare" not in by_name:
            continue
        kind = row.rsplit(" ", 1)[1]
        median = by_name["tare"]["wall"]["median"]
        yield row, judge(median / first.setdefault(kind, median), GROWTH)


def table(head, rows):
    rows = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))).rstrip())


def show(report):
    names = list(report["versions"])
    print(f"Linux {report['kernel']}, {report['cpus']} CPUs, cgroups {report['cgroups']}, {report['rounds']} rounds")
    for name, version in report["versions"].items():
        print(f"  {name}: {version}")
    print("\ntare's medians as a ratio to those of ...")
    table(["", "crun", "runc", "floor"], headline(report))
    grown = list(growth(report))
    if grown:
        print("\ntare's medians as a ratio to those with none of it")
        table(["", "ratio"], grown)
    for what, title in (("wall", "wall"), ("cpu", "CPU")):
        print(f"\n{title} time in milliseconds: median (quartiles)")
        cells = [[row, *[cell(by_name.get(name), what) for name in [*names, "floor"]]]
                 for row, by_name in report["times"].items()]
        table(["", *names, "floor"], cells)
    show_weights(report, names)
    for failure in report["failed"]:
        print(f"failed: {failure['runtime']}: {failure['workload']}: {failure['error']}")


def cell(figures, what):
    return "{median:.2f} ({q1:.2f}-{q3:.2f})".format(**figures[what]) if figures else "-"


def show_weights(report, names):
    def rows(weights):
        commands = dict.fromkeys(command for name in names for command in weights.get(name, {}))
        return [[command, *[weights[name].get(command) or "-" for name in names]] for command in commands]

    if report["resident_kib"]:
        print(f"\nk. maximum resident set, KiB (a program that does nothing: {report['resident_floor_kib']})")
        table(["", *names], rows(report["resident_kib"]))
        both = [report["resident_kib"].get(name, {}).get("run") for name in ("tare", "crun")]
        print(f"run, tare/crun: {judge(both[0] / both[1] if all(both) else None, RESIDENT)}")
        if any(report["instructions"].values()):
            print("\nk. instructions (callgrind)")
            table(["", *names], rows(report["instructions"]))
    if report["least_memory_kib"]:
        print("\nj. the least memory limit at which /bin/true runs, KiB")
        table(["", *names], [["", *[report["least_memory_kib"].get(name) or "-" for name in names]]])
    print("\nbinary, KiB")
    table(["", *names], [["", *[report["binary_bytes"][name] // 1024 for name in names]]])
