"""Layout of a sweep's directory: the name of every file and folder that a sweep or a tuning writes.

sweep.json  sweep.lock  costs.json                                  the sweep
references/<program id>/reference.json  trace.parquet  stderr.txt   its reference runs
trials/<trial id>/result.json  config.yaml  stderr.txt              its trials; with profiling also a trace
trials/<trial id>/scratch/advance.json                              while a trial runs
…/stdout.txt                                                        beside stderr.txt, of a program of the user's
slurm/                                                              jobs of SLURM: scripts, claims, logs
report.md  report.html  results.parquet  results.csv  map.svg  map.png  plots/  comparison.md   the report
tune.md  best.yaml  curves_<buckets>.svg                            a tuning
"""

from pathlib import Path

MANIFEST = "sweep.json"
SWEEP_LOCK = "sweep.lock"
CLAIMS_LOCK = ".claims.lock"  # beside the sweeps' directories, while a sweep chooses its directory
COSTS = "costs.json"
TRIALS, REFERENCES = "trials", "references"
SLURM = "slurm"

RESULT, REFERENCE, STDERR, STDOUT = "result.json", "reference.json", "stderr.txt", "stdout.txt"
TRIAL_CONFIG = "config.yaml"
REQUESTS = "trace.parquet"  # the requests of a program to its cache, recorded by its reference run
PROFILER_TRACE = "perfetto_trace.json.gz"  # opens at https://ui.perfetto.dev
TRIAL_PROGRESS = "advance.json"

REPORT, PAGE, COMPARISON = "report.md", "report.html", "comparison.md"
RESULTS_PARQUET, RESULTS_CSV = "results.parquet", "results.csv"
MAP_SVG, MAP_PNG, PLOTS = "map.svg", "map.png", "plots"

TUNE_REPORT, TUNE_PAGE, BEST_SETTING = "tune.md", "tune.html", "best.yaml"
RECORDED, RECORDED_WITH_BUCKETS, VERIFIED = "recorded", "recorded_buckets", "verified"  # sweeps of a tuning


def scratch(directory: Path) -> Path:
    """Return the folder of a trial's directory that is removed after its process ends."""
    return directory / "scratch"


def curves_picture(buckets: str) -> str:
    """Return the name of a tuning's picture of the curves with a set of buckets."""
    return f"curves_{buckets}.svg"
