"""Known wrong answers to every exercise: what to change in the solution, and what the check must
then say.
"""

WRONG = {
    "causal_mask": [
        ("np.tril", "np.triu", "other triangle"),
        (
            "np.tril(np.ones((length, length), dtype=bool))",
            "np.tril(np.ones((length, length), bool), -1)",
            "diagonal",
        ),
        (", dtype=bool", "", "dtype"),
        (
            "np.tril(np.ones((length, length), dtype=bool))",
            "np.tri(4, dtype=bool)",
            "another length",
        ),
    ],
    "padding_mask": [
        ("<", "<=", "counted from 0"),
        ("<", ">=", "other way round"),
        ("np.arange(width)", "np.arange(max(lengths))", "a row for every text"),
    ],
    "combine_masks": [
        (
            "columns & allowed[None]",
            "columns.transpose(0, 2, 1) & allowed[None]",
            "rows, not columns",
        ),
        ("places[:, None] >= places[None]", "places[:, None] <= places[None]", "looks ahead"),
        ("places[:, None] >= places[None]", "places[:, None] > places[None]", "sees nothing"),
        ("if causal else np.ones((width, width), bool)", "", "without `causal`"),
    ],
    "attention": [
        (" / queries.shape[1] ** 0.5", "", "square root of the head size"),
        ("softmax(dim=1)", "softmax(dim=0)", "which axis"),
        ("~mask", "mask", "inverted"),
        (
            'scores = scores.masked_fill(~mask, float("-inf"))\n    return scores.softmax(dim=1) '
            "@ values",
            "return (scores.softmax(dim=1) * mask) @ values",
            "mask after the softmax",
        ),
        ('scores = scores.masked_fill(~mask, float("-inf"))', "", "changes nothing"),
        ("queries.shape[1] ** 0.5", "2", "another head size"),
        ("queries.shape[1] ** 0.5", "queries.shape[1]", "not by itself"),
        ('float("-inf")', "0.0", "minus infinity"),
    ],
    "reach": [
        ("range(layers)", "range(layers + 1)", "one layer too many"),
        ("seen = (step @ seen > 0)", "seen = (step > 0)", "start from the first"),
        (
            "step = mask.astype(int) + np.eye(len(mask), dtype=int)",
            "step = mask.astype(int)",
            "keeps its own",
        ),
        ("return seen > 0", "return seen", "in how many ways"),
        ("step @ seen > 0", "step.T @ seen > 0", "another mask"),
    ],
    "changed": [
        ('edited if kind == "decoder" else 0', "edited", "everybody sees"),
        ('edited if kind == "decoder" else 0', "0", "cannot see it"),
        (
            "list(range(first, length))",
            'list(range(first + (kind == "decoder"), length))',
            "itself changes",
        ),
        ("raise ValueError", "raise KeyError", "another form"),
        ('raise ValueError(f"no such kind: {kind}")', "return []", "needs a ValueError"),
    ],
    "quantize_block": [
        ("np.abs(weights).max()", "weights.max()", "-4 is larger than 2"),
        ("weights / scale if scale > 0 else weights", "weights", "nearest"),
        ("weights / scale if scale > 0 else weights", "weights / np.float64(scale)", "divide by 0"),
        ("argmin(1)", "argmax(1)", "numbers of levels"),
    ],
    "dequantize_block": [
        (" * scale", "", "scale is missing"),
        (" * scale", " / scale", "what undoes it"),
        ("LEVELS[codes]", "LEVELS[15 - codes]", "level 0 is the smallest"),
    ],
    "bits_per_weight": [
        ("4 + 32 / block", "4", "scales are stored too"),
        ("4 + 32 / block", "4 + 32", "shared by the weights"),
        (" + 32 / (256 * block)", "", "own scale is stored"),
        ("32 / (256 * block)", "32 / 256", "who shares"),
    ],
    "build_row": [
        ("[-100] * len(kept) + answer", "kept + answer", "learn to ask"),
        (
            "[-100] * len(kept) + answer",
            "[-100] * (len(kept) - 1) + answer + [-100]",
            "do not shift",
        ),
        (
            "kept + answer, [-100] * len(kept) + answer",
            "(prompt + answer)[:limit], [-100] * len(kept) + answer",
            "answer was cut",
        ),
        (
            "prompt[max(0, len(prompt) + len(answer) - limit) :]",
            "prompt[: max(0, limit - len(answer))]",
            "at its start",
        ),
        (
            "prompt[max(0, len(prompt) + len(answer) - limit) :]",
            "prompt[-min(len(prompt), limit - len(answer)) :]",
            "[-0:]",
        ),
        ("raise ValueError", "raise RuntimeError", "another form"),
    ],
    "pick": [
        ("tokens.mean()", "tokens.sum()", "favours short"),
        ("np.argmax", "np.argmin", "nearest to 0"),
        ("tokens.mean()", "tokens[0]", "all tokens count"),
        (
            "np.argmax([tokens.mean() for tokens in logprobs])",
            "len(logprobs) - 1 - np.argmax([t.mean() for t in logprobs[::-1]])",
            "of equals",
        ),
    ],
    "chance_interval": [
        ("1 / choices", "0.5", "one of four"),
        (" / questions) ** 0.5", ") ** 0.5", "divide by them"),
        (") ** 0.5", ")", "square root"),
        ("1.96", "1.645", "1.96"),
        ("max(0.0, chance - half)", "chance - half", "never below 0"),
    ],
    "score_labels": [
        (
            "np.exp(safe).sum(1, keepdims=True)",
            "np.exp(safe[:, labels]).sum(1, keepdims=True)",
            "labels alone",
        ),
        ("logits - logits.max(1, keepdims=True)", "logits", "exp(1000)"),
        (
            "return (safe - np.log(np.exp(safe).sum(1, keepdims=True)))[:, labels]",
            "return (np.exp(safe) / np.exp(safe).sum(1, keepdims=True))[:, labels]",
            "not logarithms",
        ),
        ("[:, labels]", "", "a column for every label"),
    ],
    "remove_lean": [
        (" - np.log(np.exp(empty).mean(0))", "", "nothing was taken out"),
        ("np.log(np.exp(empty).mean(0))", "empty.mean(0)", "average probabilities"),
        ("scores - np", "scores + np", "nothing was taken out"),
        ("argmax(1)", "argmax(0)", "one label a text"),
    ],
    "confusion": [
        (
            "(np.asarray(truth), np.asarray(picked))",
            "(np.asarray(picked), np.asarray(truth))",
            "transposed",
        ),
        (
            "np.add.at(table, (np.asarray(truth), np.asarray(picked)), 1)",
            "table[truth, picked] += 1",
            "repeated places",
        ),
        (
            "np.zeros((classes, classes), dtype=int)",
            "np.zeros((max(picked) + 2, max(picked) + 1), int)",
            "never picked",
        ),
    ],
    "macro_f1": [
        (
            "np.mean(2 * np.diag(table) / np.maximum(both, 1))",
            "np.trace(table) / table.sum()",
            "accuracy",
        ),
        (
            "np.mean(2 * np.diag(table) / np.maximum(both, 1))",
            "np.mean(np.diag(table) / table.sum(1))",
            "recall alone",
        ),
        (
            "np.mean(2 * np.diag(table) / np.maximum(both, 1))",
            "np.mean(np.diag(table) / np.maximum(table.sum(0), 1))",
            "precision alone",
        ),
        (
            "np.mean(2 * np.diag(table) / np.maximum(both, 1))",
            "np.average(2 * np.diag(table) / both, weights=table.sum(1))",
            "counts the same",
        ),
        (
            "np.mean(2 * np.diag(table) / np.maximum(both, 1))",
            "np.mean([f for f in 2 * np.diag(table) / both if f > 0])",
            "was never right",
        ),
        (
            "2 * np.diag(table) / np.maximum(both, 1)",
            "2 / (table.sum(0) / np.diag(table) + table.sum(1) / np.diag(table))",
            "divide by 0",
        ),
    ],
    "class_weights": [
        ("np.where(counts > 0, weights, 0.0)", "counts / counts.max()", "rare classes"),
        ("len(labels) / (", "1 / (", "mean 1"),
        ("(counts > 0).sum()", "classes", "classes that occur"),
        ("np.where(counts > 0, weights, 0.0)", "weights", "gets 0"),
    ],
    "find_rotation": [
        ("-shift", "shift", "other way"),
        (
            "np.trace(np.roll(table, -shift, axis=1))",
            "(np.roll(table, -shift, 1).argmax(1) == np.arange(len(table))).sum()",
            "all classes",
        ),
        ("int(np.argmax(agreed))", "int(np.argmax(agreed)) + 1", "shift 0"),
    ],
    "lora_forward": [
        (" + scale * (inputs @ down.T @ up.T)", "", "part is missing"),
        ("alpha / down.shape[0]", "1.0", "scale alpha / rank is missing"),
        ("alpha / down.shape[0]", "alpha", "divided by the rank"),
        ("inputs @ weight.T + ", "", "with `up` 0"),
        ("alpha / down.shape[0]", "alpha / 2", "another rank"),
    ],
    "merge": [
        ("alpha / down.shape[0] * ", "", "scale alpha / rank is missing"),
        ("weight + ", "", "frozen weights are missing"),
        ("up @ down", "down.T @ up.T", "another form"),
        ("alpha / down.shape[0]", "alpha", "weight + alpha / rank"),
    ],
    "count_trained": [
        (" + (width + 1) * classes", "", "head is trained"),
        ("(width + 1)", "width", "bias is missing"),
        ("rank * (out + into)", "out * into", "frozen weights"),
        (
            "sum(rank * (out + into) for out, into in shapes)",
            "rank * sum(shapes[0])",
            "every adapted layer",
        ),
    ],
    "choose_saved": [
        ('part.startswith("lora_") or ', "", "LoRA's own"),
        (" or part in heads", "", "head is lost"),
        ("part in heads", "part.endswith(tuple(heads))", "whole parts"),
        ("if any(part", 'if name.endswith(".weight") and any(part', "bias is lost"),
        ("if any(part", "if True or any(part", "frozen weights"),
    ],
    "bootstrap": [
        ("mean(1)", "mean(0)", "over resamples"),
        ("[2.5, 97.5]", "[5, 95]", "2.5 on each side"),
        (
            "np.percentile(np.asarray(correct)[draws].mean(1), [2.5, 97.5])",
            "correct[draws].mean(1).mean() + np.array([-1, 1]) * 1.96 * "
            "correct[draws].mean(1).std()",
            "not 1.96",
        ),
        ("[2.5, 97.5]", "[60, 97.5]", "holds the accuracy"),
    ],
    "mcnemar": [
        (
            "n, k = only_a + only_b, min(only_a, only_b)",
            "n, k = len(a), min(only_a, only_b)",
            "leave them out",
        ),
        ("min(1.0, 2 * sum", "min(1.0, sum", "two-sided"),
        ("sum(comb(n, j) for j in range(k + 1))", "comb(n, k)", "or fewer"),
        ("range(k + 1)", "range(k)", "too early"),
        ("min(only_a, only_b)", "only_b", "same for b and a"),
        (
            "min(1.0, 2 * sum(comb(n, j) for j in range(k + 1)) / 2**n)",
            "2 * sum(comb(n, j) for j in range(k + 1)) / 2**n",
            "p is 1",
        ),
    ],
    "search": [
        ("-(vectors @ query)", "(vectors @ query)", "turned round"),
        (" / lengths", "", "divide by the lengths"),
        ("[:k]", "", "return k"),
        (
            "np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)",
            "np.abs(vectors).sum(1)",
            "other vectors",
        ),
    ],
    "bm25": [
        (
            "text.split() for text in texts",
            "list(text) for text in texts",
            "only texts with the word",
        ),
        (
            "sum(asked in text for text in words)",
            "sum(text.count(asked) for text in words)",
            "occurrences",
        ),
        ("1 - b + b * len(text) / mean", "1", "length left out"),
        ("scores[number] += (", "scores[number] = (", "add up"),
        (
            "words = [text.split() for text in texts]\n    mean = sum(map(len, words)) / "
            "len(words)",
            "words = texts\n    mean = sum(len(t.split()) for t in texts) / len(texts)",
            "not letters",
        ),
    ],
    "fuse": [
        ("(-sums[number], number)", "(sums[number], number)", "turned round"),
        (
            "sums[number] = sums.get(number, 0.0) + 1 / (constant + rank)",
            "sums[number] = max(sums.get(number, 0.0), 1 / (constant + rank))",
            "add over lists",
        ),
        ("(-sums[number], number)", "(-sums[number], -number)", "smaller number first"),
        ("start=1", "start=0", "another form"),
    ],
    "hit_at": [
        ("row[:k]", "row", "first k"),
        ("bool(set(row[:k]) & wanted)", "len(set(row[:k]) & wanted)", "counts once"),
        ("bool(set(row[:k]) & wanted)", "wanted <= set(row[:k])", "is enough"),
        ("sum(hits) / len(hits)", "float(sum(hits))", "counts once"),
    ],
    "quartet": [
        ("place) for place", "0) for place", "right place"),
        ("(list(answers), place)", "(answers[place:] + answers[:place], 0)", "same place"),
        ("(list(answers), place)", "(answers[:1] * 4, place)", "four different"),
        ("range(4)", "range(3)", "one question a fact"),
    ],
    "compare": [
        ("(repairs - breakages) / len(a)", "(breakages - repairs) / len(a)", "not b minus a"),
        ("(repairs - breakages) / len(a)", "float(repairs - breakages)", "share of all"),
        ("((a == 1) & (b == 0)).sum()", "(a == 1).sum()", "no repairs"),
        ('"breakages": breakages', '"broken": breakages', "by these names"),
    ],
}
