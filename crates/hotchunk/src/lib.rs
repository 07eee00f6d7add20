//! The hot store of one chunk of ledgers: each ledger in one atomic commit.
