"""Tables S1 and S2 put to the test: relaxed, kicked, and searched for.

    python -m benchmarks.published_tables relax --potential sevennet-0
    python -m benchmarks.published_tables kick
    python -m benchmarks.published_tables search --key S1-P21212 --cell free --count 60 --seed 0
    python -m benchmarks.published_tables search --key S2-P21c --cell printed --count 60 --seed 0
    python -m benchmarks.published_tables model --key S2-P21c --count 20 --learn 40
    python -m benchmarks.published_tables displace --key S2-P21c --distance 0.5 --count 6
    python -m benchmarks.published_tables confirm
    python -m benchmarks.published_tables summary

Every command goes on where a killed one stopped. Results: benchmarks/results/published_tables. ``relax`` and
``kick`` write one JSON entry a crystal; ``search``, ``model`` and ``displace`` append one row a relaxation to
searches.csv and keep the crystals in results/published-tables; ``confirm`` relaxes the lowest of each search again with
SevenNet-0, as the published structures were; ``summary`` computes summary.json from all that and from the
shipped dataset, nothing else.
"""
