"""How many relaxations each method needs for a hit, in one cell, with one potential and one relaxer.

    python -m benchmarks.search_efficiency run --method random --template P2_1 --seed 0 --count 300 \
        --executor processes:2
    python -m benchmarks.search_efficiency run --method geometric --models MODELS/geometric.json ...
    python -m benchmarks.search_efficiency refresh --dataset shipped
    python -m benchmarks.search_efficiency summary

``run`` appends to relaxations.csv (one row a relaxation) and samples.csv (one row a batch of
proposals); a killed run goes on where it was. ``refresh`` compares all finds anew with alpha, each
other and the dataset. ``summary`` computes summary.json from the two.
"""
