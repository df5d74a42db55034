"""Write runs.csv: final losses of three tuning methods at six sizes, simulated with a known law and a fixed seed."""

import csv
from pathlib import Path

import numpy as np

FLOOR, EXPONENT = 1.6, 0.32
AMPLITUDE = {"full": 300.0, "lora": 360.0, "prompt": 520.0}
SIZES = (20_000_000, 60_000_000, 200_000_000, 600_000_000, 2_000_000_000, 6_000_000_000)
SCATTER = 0.01


def main() -> None:
    """Draw each loss around floor + amplitude / params^exponent, with relative scatter."""
    rng = np.random.default_rng(20240601)
    with (Path(__file__).parent / "runs.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["params", "method", "loss"])
        for params in SIZES:
            for method, amplitude in AMPLITUDE.items():
                loss = (FLOOR + amplitude * params**-EXPONENT) * np.exp(SCATTER * rng.standard_normal())
                table.writerow([params, method, f"{loss:.4f}"])


if __name__ == "__main__":
    main()
