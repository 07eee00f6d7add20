//! A multi-family RocksDB handle: synced batches, snapshots, closing that drains.
