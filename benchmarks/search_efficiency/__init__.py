"""How many relaxations each method needs for a hit, in one cell, with one potential and one relaxer.

    python -m benchmarks.search_efficiency run --method random --template P2_1 --seed 0 --count 300 \
        --executor processes:2
    python -m benchmarks.search_efficiency run --method geometric --models MODELS/geometric.json ...
    python -m benchmarks.search_efficiency run --method geometric_heldout --variant screened --guide x0 --downhill \
        --oversample 11 --screen 8 --set steps=30 --set guidance_scale=10 --template P2_12_12_1 --count 25 \
        --models nanh2lib/data/models/geometric_heldout.json
    python -m benchmarks.search_efficiency run --method geometric_heldout --variant guide-physics --guide physics \
        --template C2 --count 50 --models nanh2lib/data/models/geometric_heldout.json
    python -m benchmarks.search_efficiency parts --models PARTS
    python -m benchmarks.search_efficiency run --method geometric_heldout --variant part-no-torus --guide x0 \
        --template C2 --count 50 --models PARTS/no-torus.json
    python -m benchmarks.search_efficiency refresh --dataset shipped
    python -m benchmarks.search_efficiency confirm --top 30
    python -m benchmarks.search_efficiency summary

``run`` appends to relaxations.csv (one row a relaxation) and samples.csv (one row a batch of
proposals); a killed run goes on where it was. With ``--screen N`` each proposal is the lowest of N
candidates after one call of the judging potential each; all these calls are charged. Variants
``guide-...`` and ``part-...`` are one model with one part changed; ``parts`` trains the networks of
the latter. ``refresh`` compares finds anew with alpha, each other and the dataset. ``confirm``
relaxes the best finds of each method with SevenNet-0 (confirmed.csv). ``validity`` judges raw
samples and relaxes none. ``summary`` computes summary.json from whole batches; rows of a batch
stand best first, so those of one that was cut short wait in unfinished.csv.
"""
