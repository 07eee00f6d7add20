use std::{collections::HashSet, fmt};

use icecore_ledger::{Result, TxHash};
use sha2::{Digest, Sha256};

use crate::transaction::Contents;

/// Which network a transaction is meant for: SHA-256 of the network's passphrase. It goes into every transaction hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkId(pub [u8; 32]);

/// The passphrase of the public network.
pub const PUBNET: &str = "Public Global Stellar Network ; September 2015";
/// The passphrase of the test network.
pub const TESTNET: &str = "Test SDF Network ; September 2015";
/// The passphrase of the network that tries what the test network will have.
pub const FUTURENET: &str = "Test SDF Future Network ; October 2022";
/// The passphrase of a network of one node on one's own machine.
pub const STANDALONE: &str = "Standalone Network ; February 2017";
/// The passphrase that the chain's node gives itself in its own tests.
pub const SELF_TEST: &str = "(V) (;,,;) (V)";
/// The passphrase that the chain's node gives itself when it measures how fast it applies ledgers.
pub const APPLY_LOAD: &str = "Apply Load";
/// The passphrase under which ledgers for load tests of indexers are made.
pub const LOAD_TEST: &str = "load test network";

/// Every passphrase known here.
pub const PASSPHRASES: [&str; 7] = [PUBNET, TESTNET, FUTURENET, STANDALONE, SELF_TEST, APPLY_LOAD, LOAD_TEST];

impl NetworkId {
    /// The id of the network with this passphrase.
    pub fn of(passphrase: &str) -> Self {
        NetworkId(Sha256::digest(passphrase).into())
    }

    /// Which of `known` networks a raw ledger belongs to: the one with which an envelope in it hashes to one of its
    /// results. `None` when it is none of them, or when the ledger has no transactions to tell by.
    ///
    /// # Errors
    /// [`Error::Malformed`](icecore_ledger::Error::Malformed) for bytes that are not one whole ledger.
    ///
    /// ```no_run
    /// use icecore_stellar::{NetworkId, PASSPHRASES};
    ///
    /// let raw = std::fs::read("ledger.xdr")?;
    /// let network = NetworkId::detect(&raw, &PASSPHRASES.map(NetworkId::of))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detect(raw: &[u8], known: &[NetworkId]) -> Result<Option<NetworkId>> {
        let contents = Contents::read(raw)?;
        let applied: HashSet<TxHash> = contents.applied.iter().map(|tx| tx.hash()).collect();
        let fits = |network: &&NetworkId| {
            contents
                .envelopes
                .iter()
                .any(|envelope| applied.contains(&envelope.parts.hash(envelope.xdr, network)))
        };
        Ok(known.iter().find(fits).copied())
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({})", TxHash(self.0))
    }
}
