"""Names and meanings of the figures of explanations; `genrec.runs.explanation_measures` computes them."""

FIGURES = {
    "faithfulness": "fall of log-likelihood without the cited items, over that without as many random ones",
    "drop_cited": "fall of log-likelihood without the cited items, in nats",
    "drop_random": "fall of log-likelihood without as many random items of the same newest ones, in nats",
    "drop_beyond_random": "the former minus the latter, in nats; always defined, where random ones may even add",
    "citation_validity": "share of texts that name only items of the history and the recommended item",
    "written": "share of texts that the language model wrote",
    "fallbacks": "share of texts that failed their check twice and gave way to the sentence",
    "usr": "different texts over all texts of a list (USR)",
    "usr_all": "different texts over all texts of all users",
    "div": "features that two texts of a list have in common, on average; lower is better (DIV)",
    "fmr": "share of texts that hold the feature of their evidence, where it has one (FMR)",
    "fcr": "features that the texts hold, over all features of the catalogue (FCR; Li et al., ACL 2021)",
    "distinct_1": "different words over all words of all texts",
    "distinct_2": "different pairs of words over all pairs (Li et al., NAACL 2016)",
    "words": "words of a text",
}
"""The figures and their meanings."""
