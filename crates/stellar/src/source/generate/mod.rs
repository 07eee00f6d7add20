//! Ledgers made up from a seed: as the network writes them, with nobody's transactions.
//!
//! Every ledger depends on the specification and its own sequence alone, so that any range can be had without those
//! before it. Transactions carry real hashes, of a network that exists nowhere else.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use icecore_ledger::{Error, GENESIS, LedgerRange, LedgerSeq, LedgerStream, RawLedger, Result, Source};

mod ledger;
mod out;
mod tx_set;
mod values;
mod world;

use ledger::Maker;
use world::World;

/// The passphrase of the network that generated transactions are signed for.
pub const GENERATED_PASSPHRASE: &str = "icecore generated network";

/// What a generator's description begins with.
pub(super) const SCHEME: &str = "gen:";

/// No ledger has more transactions, nor more events of operations.
const MAX_TXS: u64 = 50_000;
const MAX_EVENTS: u64 = 500_000;

/// A source of generated ledgers, described by `gen:KEY=NUMBER,…`. All keys may be left out:
///
/// | key | meaning | default |
/// |---|---|---|
/// | `seed` | another seed, other ledgers | 1 |
/// | `from` | the first ledger | 2 |
/// | `ledgers` | how many ledgers there are | 1000 |
/// | `txs` | transactions in a ledger | 100 |
/// | `events` | events of each contract call; 0: no events of any kind | 3 |
/// | `contracts` | how many contracts there are; the first ones are called the most | 100 |
/// | `accounts` | how many accounts there are | 1000 |
/// | `payments` | percentage of classic payments; the other transactions call contracts | 30 |
/// | `fee_bumps` | percentage of transactions wrapped in a fee-bump | 3 |
/// | `meta` | 3: ledger meta 1 with transaction meta 3; 4: ledger meta 2 with transaction meta 4 | 4 |
///
/// With transaction meta 4 payments have an event too, and there are events of fees before and after all
/// transactions.
///
/// ```
/// use icecore_stellar::source::Generator;
///
/// let generator: Generator = "gen:seed=7,txs=200".parse()?;
/// assert_eq!(
///     generator.to_string(),
///     "gen:seed=7,from=2,ledgers=1000,txs=200,events=3,contracts=100,accounts=1000,payments=30,fee_bumps=3,meta=4"
/// );
/// # Ok::<(), icecore_ledger::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Generator {
    spec: Spec,
    world: World,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    seed: u64,
    from: u64,
    ledgers: u64,
    txs: u64,
    events: u64,
    contracts: u64,
    accounts: u64,
    payments: u64,
    fee_bumps: u64,
    meta: u64,
}

impl Spec {
    /// All keys in the order in which they are printed, with the values they may have.
    fn settings(&mut self) -> [(&'static str, &mut u64, RangeInclusive<u64>); 10] {
        let ledgers = u64::from(u32::MAX);
        [
            ("seed", &mut self.seed, 0..=u64::MAX),
            ("from", &mut self.from, u64::from(GENESIS.0)..=ledgers),
            ("ledgers", &mut self.ledgers, 1..=ledgers),
            ("txs", &mut self.txs, 0..=MAX_TXS),
            ("events", &mut self.events, 0..=MAX_EVENTS),
            ("contracts", &mut self.contracts, 1..=u64::from(u32::MAX)),
            ("accounts", &mut self.accounts, 1..=u64::from(u32::MAX)),
            ("payments", &mut self.payments, 0..=100),
            ("fee_bumps", &mut self.fee_bumps, 0..=100),
            ("meta", &mut self.meta, 3..=4),
        ]
    }

    fn set(&mut self, setting: &str) -> Result<&'static str, String> {
        let known = self.settings().map(|(name, ..)| name).join(", ");
        let not_a_pair = || format!("{setting:?} is not KEY=NUMBER; the keys are {known}");
        let (key, value) = setting.split_once('=').ok_or_else(not_a_pair)?;
        let found = self.settings().into_iter().find(|(name, ..)| *name == key);
        let (name, field, allowed) =
            found.ok_or_else(|| format!("there is no key {key:?}; the keys are {known}"))?;
        let number = value.parse().ok().filter(|number| allowed.contains(number));
        let (least, most) = allowed.into_inner();
        *field =
            number.ok_or_else(|| format!("{key}={value}: a number from {least} to {most} is expected"))?;
        Ok(name)
    }

    fn check(&self) -> Result<(), String> {
        let last = self.from + self.ledgers - 1;
        if last > u64::from(u32::MAX) {
            return Err(format!(
                "from and ledgers together: the last ledger would be {last}, above {}",
                u32::MAX
            ));
        }
        if self.txs * self.events > MAX_EVENTS {
            return Err(format!(
                "txs and events together: a ledger has at most {MAX_EVENTS} events of operations"
            ));
        }
        Ok(())
    }

    fn range(&self) -> LedgerRange {
        // Checked when parsed.
        let seq = |seq: u64| LedgerSeq(u32::try_from(seq).unwrap_or(u32::MAX));
        LedgerRange { first: seq(self.from), last: seq(self.from + self.ledgers - 1) }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            seed: 1,
            from: u64::from(GENESIS.0),
            ledgers: 1000,
            txs: 100,
            events: 3,
            contracts: 100,
            accounts: 1000,
            payments: 30,
            fee_bumps: 3,
            meta: 4,
        }
    }
}

impl Default for Generator {
    /// `gen:`, with every key at its default.
    fn default() -> Self {
        Generator::new(Spec::default())
    }
}

impl Generator {
    fn new(spec: Spec) -> Self {
        let world = World::new(&spec);
        Generator { spec, world }
    }
}

impl FromStr for Generator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |what| Error::Config { place: text.chars().take(200).collect(), what };
        let settings =
            text.strip_prefix(SCHEME).ok_or_else(|| refuse(format!("{SCHEME} is missing in front")))?;
        let mut spec = Spec::default();
        let mut seen = Vec::new();
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let key = spec.set(setting).map_err(refuse)?;
            if seen.contains(&key) {
                return Err(refuse(format!("{key} is there twice")));
            }
            seen.push(key);
        }
        spec.check().map_err(refuse)?;
        Ok(Generator::new(spec))
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.spec.clone().settings().map(|(name, value, _)| format!("{name}={value}"));
        write!(f, "{SCHEME}{}", settings.join(","))
    }
}

impl Source for Generator {
    fn describe(&self) -> String {
        self.to_string()
    }

    fn range(&self) -> Result<LedgerRange> {
        Ok(self.spec.range())
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        let has = self.spec.range();
        if has.intersect(ledgers) != Some(ledgers) {
            return Err(Error::OutOfRange { place: self.describe(), has, wanted: ledgers });
        }
        Ok(Box::new(Stream {
            maker: Maker::new(&self.spec, &self.world),
            next: Some(ledgers.first),
            ledgers,
        }))
    }
}

struct Stream<'a> {
    maker: Maker<'a>,
    next: Option<LedgerSeq>,
    ledgers: LedgerRange,
}

impl LedgerStream for Stream<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        let Some(seq) = self.next else { return Ok(None) };
        self.next = seq.0.checked_add(1).map(LedgerSeq).filter(|next| self.ledgers.contains(*next));
        Ok(Some(RawLedger { seq, bytes: self.maker.ledger(seq) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let Err(Error::Config { what, .. }) = text.parse::<Generator>() else { panic!("{text} is accepted") };
        what
    }

    #[test]
    fn what_it_prints_it_reads() {
        let text = "gen:seed=18446744073709551615,from=9,ledgers=4,txs=0,events=7,contracts=1,accounts=5,payments=0,\
                    fee_bumps=100,meta=3";
        let generator: Generator = text.parse().unwrap();
        assert_eq!(generator.to_string(), text);
        assert_eq!(generator.range().unwrap(), LedgerRange { first: LedgerSeq(9), last: LedgerSeq(12) });
        let default: Generator = "gen:".parse().unwrap();
        assert_eq!(default.to_string(), Generator::default().to_string());
    }

    #[test]
    fn what_it_refuses_it_names() {
        assert!(refused("seed=1").contains("gen:"));
        let unknown = refused("gen:sed=1");
        assert!(unknown.contains("\"sed\"") && unknown.contains("fee_bumps"), "{unknown}");
        assert!(refused("gen:seed").contains("KEY=NUMBER"));
        assert!(refused("gen:txs=1,txs=1").contains("twice"));
        for (setting, allowed) in
            [("meta=5", "3 to 4"), ("payments=101", "0 to 100"), ("txs=-1", "0 to 50000")]
        {
            let what = refused(&format!("gen:{setting}"));
            assert!(what.contains(setting) && what.contains(allowed), "{what}");
        }
        assert!(refused("gen:from=4294967295,ledgers=2").contains("last ledger"));
        assert!("gen:from=4294967295,ledgers=1".parse::<Generator>().is_ok());
        assert!(refused("gen:txs=1000,events=501").contains("at most"));
    }
}
