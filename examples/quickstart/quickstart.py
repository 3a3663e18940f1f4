"""The quickstart from Python: one run, and what it says of each row of the table."""

import mint_core as mint

result = mint.run(teacher="plip", aligner="orpo", quick=True)
for row in result.metrics["rows"]:
    shares = {name: f"{100 * value['mean']:.1f} %" for name, value in row["metrics"].items()}
    print(f"{row['variant']:<18}{shares}")
print("adapter:", result.path / "adapter")
