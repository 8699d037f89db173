"""Write the measured tables of docs/ from the JSON of the benchmarks.

    python benchmarks/gpu_tables.py            writes the marked regions
    python benchmarks/gpu_tables.py --check    lists regions that are out of date, and writes none

A region begins with ``<!-- NAME: written by benchmarks/gpu_tables.py -->`` and ends with
``<!-- end of NAME -->``. A figure without a measurement is called an estimate or "not measured".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import checkout

RESULTS = checkout.ROOT / "benchmarks" / "results"
DOCS = checkout.ROOT / "docs"
WAYS = {
    "A": "A: diffusers, peft, accelerate",
    "A*": "A*: A with sgflux's attention kernel",
    "B": "B: sgflux, one statement",
    "B2": "B2: two statements",
    "B+": "B+: and distillation from words",
    "C": "C: and one negative graph",
    "C3": "C3: and three negative graphs",
    "S": "S: and concepts that look on",
}
NOT_MEASURED = "not measured"
Content = Mapping[str, Any]
Lines = list[tuple[str, str]]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# --- on a CPU -------------------------------------------------------------------------------------


def read_results(path: Path) -> Content | None:
    """Read what a benchmark wrote; None if there is no such file.

    Raises:
        SystemExit: if a rehearsal wrote the file.
    """
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("toy"):
        raise SystemExit(
            f"error: {path} was written by a rehearsal (--toy); docs/ takes measurements only"
        )
    return content


def step_region(content: Content | None) -> str:
    """Ratios of training steps on a CPU."""
    if content is None:
        return f"Training steps on a CPU: {NOT_MEASURED}."
    parts = [part for part in content["parts"] if part["mode"] != "sampling"]
    header = ["CPU time, times A's", *(f"{p['model']}, {p['dtype']}, {p['mode']}" for p in parts)]
    rows = []
    for name, title in WAYS.items():
        cells = [part["ways"].get(name) for part in parts]
        if any(cells):
            rows.append([title, *(ratio_cell(cell) for cell in cells)])
    beside = [part["ways"].get("A*") for part in parts]
    if any(beside):
        ratios = [
            f"{part['ways']['B']['cpu_ratio'] / own['cpu_ratio']:.2f}" if own else ""
            for part, own in zip(parts, beside, strict=True)
        ]
        rows.append(["B beside A*", *ratios])
    seconds = [f"{part['ways']['A']['cpu_seconds']:.3f} s" for part in parts]
    rows.append(["a step of A", *seconds])
    return f"{where(content)}\n\n{markdown(header, rows)}"


def ratio_cell(row: Content | None) -> str:
    """A ratio with its quartiles."""
    if row is None:
        return ""
    low, high = row["cpu_ratio_quartiles"]
    return f"{row['cpu_ratio']:.2f} ({low:.2f}–{high:.2f})"


def sampling_region(content: Content | None) -> str:
    """Ratios of sampling on a CPU."""
    parts = [p for p in (content or {"parts": []})["parts"] if p["mode"] == "sampling"]
    if not parts:
        return f"Sampling on a CPU: {NOT_MEASURED}."
    header = [
        "CPU time, times FluxPipeline's",
        *(f"{p['dtype']}, {p['pictures']} pictures, {p['steps']} steps" for p in parts),
    ]
    names = list(parts[0]["ways"])
    rows = [[name, *(ratio_cell(part["ways"][name]) for part in parts)] for name in names]
    return markdown(header, rows)


def where(content: Content) -> str:
    """A sentence that names the machine, the libraries and the code of a measurement."""
    machine = content["machine"]
    versions = machine["versions"]
    load = machine["load_average"]
    shared = f", shared with other programs (load average {load})" if load > 1.5 else ""
    return (
        f"Measured on {machine['date']} on one thread of a machine with {machine['cores']} cores "
        f"({machine['processor']}){shared}, with torch {versions['torch']}, diffusers "
        f"{versions['diffusers']} and peft {versions['peft']}, commit {machine['commit']}: medians "
        f"of {content['turns']} turns, quartiles in brackets."
    )


def recipe_region(content: Content | None) -> str:
    """The demo's recipe beside its former one."""
    if content is None:
        return f"The demo's recipe: {NOT_MEASURED}."
    rows = []
    for name, figure in content["figures"].items():
        gap = figure["difference"]
        low, high = (100 * end for end in gap["ci95"])
        cells = []
        for recipe in ("former", "demo"):
            whole = figure[recipe]["all"]
            value = whole.get("value", whole.get("macro"))
            seeds = ", ".join(f"{100 * seed:.1f}" for seed in figure[recipe]["seeds"])
            cells.append(f"{100 * value:.1f} % ({seeds})")
        rows.append([name, *cells, f"{100 * gap['difference']:+.1f} ({low:+.1f} to {high:+.1f})"])
    spent = content["training_cpu_seconds"]
    seconds = [
        f"{min(spent[recipe]):.0f} to {max(spent[recipe]):.0f}" for recipe in ("former", "demo")
    ]
    rows.append(["CPU time of the training in seconds", *seconds, ""])
    header = ["", "former recipe, scale 1.5", "demo, scale 1", "difference in points (95 %)"]
    return markdown(header, rows) + (
        "\n\nThe three figures in brackets are those of the three seeds of training, as means "
        "over the pictures. Intervals are over test items and hold for these three seeds."
    )


def contrast_region(content: Content | None) -> str:
    """Ratios of steps with negative graphs or concepts to a plain step."""
    parts = [p for p in (content or {"parts": []})["parts"] if p["mode"] == "eager"]
    if not parts:
        return f"What a contrastive step costs: {NOT_MEASURED}."
    # Blocks: those before the first adapted one run once, the others three times for a backward.
    header = ["CPU time, times a plain step's (B)"]
    header += [f"{p['model']}, {p['dtype']}" for p in parts]
    titles = {"S": "concepts look on (saliency)", "C": "1 negative", "C3": "3 negatives"}
    rows = []
    for name, title in titles.items():
        ratios = [p["ways"][name]["cpu_ratio"] / p["ways"]["B"]["cpu_ratio"] for p in parts]
        rows.append([title, *(f"{value:.2f}" for value in ratios)])
    return markdown(header, rows)


# --- on a GPU -------------------------------------------------------------------------------------


# --- start, cache and growth ----------------------------------------------------------------------


def measured_on(content: Content) -> str:
    """When and on which machine a figure was measured, and by which command."""
    machine = content["machine"]
    return (
        f"Measured on {machine['date']} by `{content['command']}` on a machine with "
        f"{machine['cores']} cores ({machine['processor']}), shared with other "
        f"programs (load average {machine['load_average']}), commit {machine['commit']}."
    )


def startup_region(content: Content | None) -> str:
    """CPU time of help texts, errors and imports."""
    if content is None:
        return f"Start-up: {NOT_MEASURED}."
    rows = dict(content["rows"])
    imports = ["import sgflux.sampling", "from sgflux.sampling import SceneGraphFluxPipeline"]
    imports += ["from diffusers import FluxPipeline"]
    groups = {
        "--help of a command, the slowest": [name for name in rows if name.endswith("--help")],
        "an unknown flag, the slowest": [name for name in rows if name.endswith("unknown flag")],
    }
    others = {*imports, "nothing"}.union(*groups.values())
    groups["any other error of one line, the slowest"] = [n for n in rows if n not in others]
    cells = [[f"`{name}`", "", f"{rows[name]['cpu_seconds']:.2f} s"] for name in imports]
    for title, names in groups.items():
        worst = max(names, key=lambda name: rows[name]["cpu_seconds"])
        seconds = f"{rows[worst]['cpu_seconds']:.2f} s"
        cells.append([f"{title} of {len(names)}", worst.removesuffix(" --help"), seconds])
    table = markdown(["process", "which", "CPU time"], cells)
    return f"{measured_on(content)} Medians of {content['turns']} processes.\n\n{table}"


def text_cache_region(content: Content | None) -> str:
    """Space and exactness of the forms in which a cache holds texts."""
    if content is None:
        return f"Forms of cached texts: {NOT_MEASURED}."
    tiny, wide = content["models"]["tiny-flux"], content["models"]["flux-sized"]
    rows = []
    for name, own in tiny.items():
        size = content["flux_prompt_bytes"].get(name)
        kept = ["", ""]
        if size is not None:
            total = content["gigabytes_of_100000_prompts"][name]
            kept = [f"{size / 1e6:.2f} MB, {total:.0f} GB", f"{wide[name]['unpack_ms']:.2g} ms"]
        changes = [f"{model[name]['velocity_change']:.2%}" for model in (tiny, wide)]
        worst = f"{own['worst_velocity_change']:.2%}"
        rows.append([f"`{name}`" if size else name, *kept, changes[0], worst, changes[1]])
    header = ["features of a text", "a prompt of FLUX, 100,000 of them", "reading one"]
    header += ["change of the velocity, tiny-flux", "worst prompt", "random weights, FLUX's width"]
    return f"{measured_on(content)}\n\n{markdown(header, rows)}"


def growth_region(content: Content | None) -> str:
    """Cost by statements, resolution and data, beside the prediction."""
    if content is None:
        return f"Growth: {NOT_MEASURED}."
    steps = [
        [f"{row['size']} {unit}", f"{row['cpu_seconds']:.3f} s", f"{row['predicted']:.3f} s"]
        for part, unit in (("statements", "statements"), ("resolution", "pixels a side"))
        for row in content[part]
    ]
    data = []
    for row in content["data"]:
        cells = [f"{row['size']:,} examples, {row['entries']:,} entries"]
        for name, unit in (
            ("start_cpu_seconds", "s"), ("epoch_cpu_seconds", "s"), ("memory_mib", "MiB"),
        ):  # fmt: skip
            found, expected = (
                f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
                for value in (row[name], row["predicted"][name])
            )
            cells.append(f"{found} {unit} ({expected})")
        data.append([*cells, f"{row['memory_growth_in_the_last_nine_tenths_mib']} MiB"])
    header = ["cache", "start", "epoch", "memory", "growth in the last nine tenths of the epoch"]
    return "\n\n".join(
        [
            measured_on(content),
            markdown(["a step of training", "CPU time", "predicted"], steps),
            markdown(header, data),
        ]
    )


# --- on a GPU -------------------------------------------------------------------------------------


def found(content: Content | None, name: str) -> Content | None:
    """Figures of a row, complete or not; None if it has none."""
    row = (content or {}).get("rows", {}).get(name, {})
    return row.get("found")


def gpu_region(content: Content | None) -> str:
    """Everything that was measured on a GPU."""
    if content is None:
        return (
            "**Not measured.** No GPU has run this version. `benchmarks/gpu.py` measures the "
            "following in nine minutes on an H100 or H200, and `benchmarks/gpu_tables.py` writes "
            "it here: the card's ceilings; bits, gradients, resuming and pictures beside the "
            "CPU's; training steps beside plain diffusers at 256², 512² and 1024², eager and "
            "compiled; where their time goes; sampling; memory; the bundled world at batch 512."
        )
    from gpu import ROWS  # which imports this module

    versions, rows = content["versions"], content["rows"]
    names = [row.name for row in ROWS]
    table: Lines = []
    for name in [*names, *(name for name in rows if name not in names)]:
        table += row_lines(name, rows[name]) if name in rows else [(name, NOT_MEASURED)]
    lines = [
        f"Measured on {content['date']} on one {content['card']['name']} "
        f"({content['card']['memory_gib']} GiB) with torch {versions['torch']} and diffusers "
        f"{versions['diffusers']}, commit {content['commit'] or 'unknown'}, fingerprint of the "
        f"code `{content['source']}`.",
        "",
        markdown(["row", "found"], [[name, text] for name, text in table]),
        *footnotes(content),
    ]
    return "\n".join(lines)


OLDER, INCOMPLETE = "†", "‡"


def footnotes(content: Content) -> list[str]:
    """Sentences that explain the marks of rows."""
    rows = content["rows"].values()
    older = sorted({row["source"] for row in rows if "source" in row})
    notes = []
    if older:
        names = ", ".join(f"`{source}`" for source in older)
        notes += ["", f"{OLDER} An earlier state of the code measured this row: {names}."]
    if any(row.get("partial") for row in rows):
        notes += ["", f"{INCOMPLETE} The row ended early; it has the figures that it kept so far."]
    return notes


def row_lines(name: str, row: Content) -> Lines:
    """One line for each figure of a row: the row's name with its marks, and the figure in words."""
    mark = (f" {OLDER}" if "source" in row else "") + (f" {INCOMPLETE}" if "partial" in row else "")
    lines = []
    if "found" in row:
        described = DESCRIBE[name.partition("-")[0]](row["found"])
        lines = [(f"{name}{mark}{more and f' {more}'}", text) for more, text in described]
    if row["status"] == "dropped":
        lines.append((name, f"{NOT_MEASURED}: no time was left"))
    elif row["status"] != "done":
        rest = "the rest is " if "found" in row else ""
        lines.append((name, f"{rest}{NOT_MEASURED}: {row.get('error', row['status'])}"))
    elif "error" in row:
        lines.append((name, f"not measured again: {row['error']}"))
    return lines


def describe_ceilings(row: Content) -> Lines:
    """Peak of matrix products, and rate of a copy."""
    return [
        (
            "",
            f"{row['matrix_tflops']:.4g} TFLOP/s in bf16 matrix products, "
            f"{row['copy_tb_per_second']:.3g} TB/s copied (read and written)",
        )
    ]


def describe_exact(row: Content) -> Lines:
    """Equality with plain diffusers where all gates are zero."""
    both = row["equal"], row["equal_in_mixed_precision"]
    words = ["equal bit for bit" if equal else "NOT EQUAL" for equal in both]
    return [("", f"zero gates beside plain diffusers: {words[0]}; in mixed precision: {words[1]}")]


def describe_gradients(row: Content) -> Lines:
    """Relative errors of gradients."""
    return [
        (
            "",
            f"relative error of the gradient: bf16 {row['bf16_beside_fp32']['all']:.2g}, "
            f"float32 beside the CPU's {row['fp32_beside_cpu']['all']:.2g}"
            f"{'' if row['ok'] else ' – BEYOND TOLERANCE'}",
        )
    ]


def describe_training(row: Content) -> Lines:
    """Differences of weights after resuming."""
    text = f"{row['steps']} steps, resumed after {row['resumed_after']}: "
    if row["resumed_equal"]:
        return [("", text + "weights equal bit for bit")]
    text += f"weights differ by up to {row['resumed_largest_difference']:.2g}"
    if "repeated_largest_difference" in row:
        text += f"; of two whole runs, by up to {row['repeated_largest_difference']:.2g}"
    if "largest_weight" in row:
        text += f"; the largest weight is {row['largest_weight']:.2g}"
    return [("", text)]


def describe_pictures(row: Content) -> Lines:
    """Differences of pictures from the CPU's."""
    return [
        (
            "",
            f"beside the CPU's, in steps of 1/255: float32 {row['fp32']['mean_difference']:.2g} "
            f"on average, bf16 {row['bf16']['mean_difference']:.2g}"
            f"{'' if row['ok'] else ' – BEYOND TOLERANCE'}",
        )
    ]


def describe_memory(row: Content) -> Lines:
    """Peaks and largest batches, or the table of modes."""
    if "modes" in row:
        return [("", "see the table of memory")]
    lines = []
    for name in ("A", "B"):
        own = row.get(name)
        if own is None:
            continue
        peaks = [f"batch {b}: {gib(peak)}" for b, peak in own["peak_gib"].items()]
        text = f"{', '.join(peaks)}; largest batch {own['largest_batch']}"
        at = own.get("at_largest")
        if at:
            text += f": {gib(at['peak_gib'])}, {at['examples_per_second']:.3g} examples/s"
            if "share_of_peak" in at:
                text += f", {at['share_of_peak']:.1%} of the matrix peak"
        lines.append((name, text))
    return lines


def gib(peak: float | None) -> str:
    """A peak of memory; a CPU has none."""
    return NOT_MEASURED if peak is None else f"{peak:.1f} GiB"


def describe_steps(row: Content) -> Lines:
    """Times of training steps of all ways."""
    lines = []
    for batch in row["batches"]:
        for name, own in batch.get("ways", {}).items():
            text = f"{own['seconds']:.3g} s, {own['ratio']:.2f} × A"
            if "share_of_peak" in own:
                text += f", {own['share_of_peak']:.0%} of the matrix peak"
            if "seconds_for_800_examples" in own:
                text += f", 800 examples in {own['seconds_for_800_examples']:.3g} s"
            lines.append((f"batch {batch['batch']}, {name}", text))
        for name in batch.get("does_not_fit", ()):
            lines.append((f"batch {batch['batch']}, {name}", "does not fit"))
    return lines


def describe_parts(row: Content) -> Lines:
    """Shares of a step's time."""
    whole = sum(row["parts"].values())
    shares = [
        f"{name} {seconds / whole:.0%}"
        for name, seconds in row["parts"].items()
        if seconds >= 0.005 * whole
    ]
    host = row["seconds_until_the_host_is_done"] / row["seconds"]
    return [("", f"{', '.join(shares)}; the host returns after {host:.0%} of the step")]


def describe_sampling(row: Content) -> Lines:
    """Times of sampling."""
    return [
        (
            name,
            f"{own['seconds']:.3g} s for {row['batch']}, {own['ratio']:.2f} × FluxPipeline, "
            f"960 pictures in {own['seconds_for_960_pictures']:.3g} s",
        )
        for name, own in row["ways"].items()
    ]


def describe_world(row: Content) -> Lines:
    """Steps a second on the bundled world."""
    names = [name for name in ("eager", "transformer", "distillation") if name in row]
    return [
        (name, f"{row[name]['steps_per_second']:.3g} steps/s at batch {row['batch']}")
        for name in names
    ]


DESCRIBE: dict[str, Callable[[Content], Lines]] = {
    "ceilings": describe_ceilings,
    "exact": describe_exact,
    "gradients": describe_gradients,
    "training": describe_training,
    "pictures": describe_pictures,
    "memory": describe_memory,
    "steps": describe_steps,
    "compiled": describe_steps,
    "parts": describe_parts,
    "sampling": describe_sampling,
    "world": describe_world,
}


def short_table(content: Content, names: Sequence[str]) -> str:
    """The figures that this code measured, for the screen; one line has at most 120 characters.

    Args:
        content: Content of the JSON.
        names: Names of the rows to show.
    """
    rows = {name: content["rows"][name] for name in names if name in content["rows"]}
    own = {name: row for name, row in rows.items() if "source" not in row or "error" in row}
    lines = [
        f"  {title:44} {text}"
        for name, row in own.items()
        if row["status"] != "dropped"
        for title, text in row_lines(name, row)
    ]
    missing = [name for name in names if rows.get(name, {}).get("status", "dropped") == "dropped"]
    older = [name for name in rows if name not in own]
    if missing:
        lines.append(f"  not measured: {', '.join(missing)}")
    if older:
        lines.append(f"  measured by older code: {', '.join(older)}")
    return "\n".join(["", *(line[:120] for line in lines)])


def status_region(content: Content | None) -> str:
    """A sentence that says which figures of the page about one GPU were measured."""
    if content is None:
        return (
            "**Every figure on this page is an estimate; none was measured on a GPU.** Parameters "
            "and operations are\ncounted exactly; activations are extrapolated from small "
            "components on a CPU, in which a double block\nkept 12 inner widths a token for the "
            "backward pass and a single block 11. `benchmarks/gpu.py` measures\nall of it on a "
            "GPU. Trust your own `nvidia-smi` over this page."
        )
    return (
        "Figures in the text of this page are estimates where they are not called measured. The "
        f"tables of\nmemory compare estimates with what one {content['card']['name']} measured on "
        f"{content['date']}, and\n[Performance](performance.md#on-a-gpu) has all other "
        "measurements. Parameters and operations are counted\nexactly; activations are "
        "extrapolated from small components on a CPU. Trust your own `nvidia-smi` over this page."
    )


def memory_region(content: Content | None) -> str:
    """Memory of every mode, estimated and measured, and a comparison of both at several batches."""
    from gpu_memory import CAPS_GB, MODES, SIZES, estimates

    table = {(row["mode"], row["size"]): row for row in estimates()}
    header = ["", *(f"{size}², estimate" for size in SIZES)]
    header += [f"{size}², measured" for size in SIZES]
    rows, fitting = [], []
    for mode in MODES:
        measured = {size: mode_memory(content, mode.name, size) for size in SIZES}
        cells = [table[mode.name, size] for size in SIZES]
        row = [mode.name, *(f"{c['total_gib']:.1f} ({c['tflop']:.0f})" for c in cells)]
        peaks = [own.get("peak_gib", [None])[0] for own in measured.values()]
        row += [NOT_MEASURED if peak is None else f"{peak:.1f}" for peak in peaks]
        rows.append(row)
        batches = [
            " / ".join(str(own.get(f"largest_in_{cap}_gb", "–")) for cap in CAPS_GB)
            if own
            else NOT_MEASURED
            for own in measured.values()
        ]
        fitting.append([mode.name, *batches])
    title = f"largest batch in {' / '.join(map(str, CAPS_GB))} GB"
    tables = [markdown(header, rows), markdown([title, *(f"{size}²" for size in SIZES)], fitting)]
    return "\n\n".join([*tables, *compared(content)])


def mode_memory(content: Content | None, mode: str, size: int) -> Content:
    """Measured memory of a mode at a size; empty if there is none.

    The row of B at batches 1 and 4 serves for the mode without savers, if it has as many text
    tokens as the table.
    """
    from gpu_bench import TEXT_TOKENS as TOKENS_OF_ROWS
    from gpu_memory import TEXT_TOKENS, largest_batches

    own: Content | None = (found(content, "memory-table") or {}).get("modes", {}).get(mode)
    if own is not None:
        return own.get(str(size), {})
    peaks = (found(content, f"memory-{size}") or {}).get("B", {}).get("peak_gib", {})
    if mode != "plain" or len(peaks) < 2 or TOKENS_OF_ROWS[size] != TEXT_TOKENS:
        return {}
    two = peaks["1"] + (peaks["4"] - peaks["1"]) / 3
    return {"peak_gib": [peaks["1"], two], **largest_batches([peaks["1"], two])}


def compared(content: Content | None) -> list[str]:
    """A table of estimates and measurements of B's memory without savers, at several batches."""
    from gpu_bench import TEXT_TOKENS
    from gpu_memory import MODES, SIZES, estimate, weightless_model

    model = weightless_model()
    rows = []
    for size in SIZES:
        own = (found(content, f"memory-{size}") or {}).get("B", {})
        peaks = {int(batch): peak for batch, peak in own.get("peak_gib", {}).items()}
        if "at_largest" in own:
            peaks[own["largest_batch"]] = own["at_largest"]["peak_gib"]
        for batch, peak in peaks.items():
            total = estimate(model, MODES[0], size, batch=batch, text_tokens=TEXT_TOKENS[size])
            guess = total["total_gib"]
            more = f"{100 * (peak / guess - 1):+.1f} %"
            rows.append([f"{size}², batch {batch}", f"{guess:.1f}", f"{peak:.1f}", more])
    return [markdown(["B without savers", "estimate", "measured", "difference"], rows)] * bool(rows)


# --- files ----------------------------------------------------------------------------------------


def regions() -> dict[tuple[str, str], str]:
    """Text of every region, by file below docs/ and name of the region."""
    steps, gpu = read_results(RESULTS / "step.json"), read_results(RESULTS / "gpu.json")
    return {
        ("performance.md", "training steps"): step_region(steps),
        ("performance.md", "compiled steps"): step_region(
            read_results(RESULTS / "step_compiled.json")
        ),
        ("performance.md", "sampling"): sampling_region(steps),
        ("performance.md", "gpu"): gpu_region(gpu),
        ("performance.md", "demo recipe"): recipe_region(
            read_results(RESULTS / "demo_recipe.json")
        ),
        ("performance.md", "start-up"): startup_region(read_results(RESULTS / "startup.json")),
        ("performance.md", "text cache"): text_cache_region(
            read_results(RESULTS / "text_cache.json")
        ),
        ("performance.md", "growth"): growth_region(read_results(RESULTS / "growth.json")),
        ("losses.md", "contrastive steps"): contrast_region(steps),
        ("flux_on_one_gpu.md", "status"): status_region(gpu),
        ("flux_on_one_gpu.md", "memory"): memory_region(gpu),
    }


def replaced(text: str, name: str, content: str) -> str:
    """Replace the content of a region of a text.

    Raises:
        ValueError: if the text has no such region, or several.
    """
    begin = f"<!-- {name}: written by benchmarks/gpu_tables.py -->"
    end = f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"expected one region {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def main() -> int:
    """Write the regions.

    Returns:
        Exit status: 1 if --check found a region that is out of date.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="List regions that are out of date, and write none."
    )
    check = parser.parse_args().check
    stale = []
    for (file, name), content in regions().items():
        path = DOCS / file
        before = path.read_text(encoding="utf-8")
        try:
            after = replaced(before, name, content)
        except ValueError as error:
            raise SystemExit(f"error: {path}: {error}") from error
        if after != before:
            stale.append(f"{file}: {name}")
            if not check:
                path.write_text(after, encoding="utf-8")
    print(f"{'out of date' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
