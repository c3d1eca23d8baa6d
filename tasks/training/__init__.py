"""Train a cross-encoder on judged queries: mine lists of candidates, train, weigh beside fusion, keep it if it wins.

Needs the extra `train`; only tasks.training.train imports torch.
"""
