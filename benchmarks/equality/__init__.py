"""Public proof that an int8 encoder gives the same tokens, to the bit, wherever it runs.

    python -m benchmarks.equality crops     -> shards of crops, the same bytes for every place
    python -m benchmarks.equality run       -> answers of one place or more, and benchmarks/results/equality.json
    python -m benchmarks.equality report    -> the table

A *place* is a runtime on a processor, real or emulated: a worker process that reads shards of raw crops and writes its
answers in one canonical form, int32 [N, 1 + T] little-endian, a row being the group and the tokens of one crop
(`answers.py`). Equal answers have equal SHA-256 digests; where one differs, the shard's digest says where to look. What
is done stays done: a run that was cut off goes on with the next shard.
"""
