//! A small chain that any ledger of can be asked for, sources that behave as told, and what reads must give.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use icecore_engine::{Engine, EngineConfig, Error, LeapingClock, Sources, Span, View};
use icecore_events::{Filter, Order};
use icecore_hotchunk::fuzz::Toy;
use icecore_ledger::{
    Decoder, Geometry, LedgerRange, LedgerSeq, LedgerStream, LiveSource, LiveStream, RawLedger, Result,
    Source, TxHash,
};
use icecore_testkit::SplitMix64;

/// Ledgers to a chunk and chunks to a window.
pub const GEOMETRY: (u32, u32) = (3, 3);

/// The first ledger of a chunk.
pub fn first_of(chunk: u32) -> u32 {
    chunk * GEOMETRY.0 + 2
}

/// The last ledger of a chunk.
pub fn last_of(chunk: u32) -> u32 {
    first_of(chunk + 1) - 1
}

/// The hash of a transaction.
pub fn hash(seq: u32, tx: u32) -> TxHash {
    let mut rng = SplitMix64::new(u64::from(seq) << 32 | u64::from(tx));
    let mut hash = [0; 32];
    for word in hash.chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next_u64().to_be_bytes());
    }
    TxHash(hash)
}

/// How many transactions a ledger has: some have none, so that some chunks' runs are empty.
pub fn transactions(seq: u32) -> u32 {
    if (first_of(6)..first_of(7)).contains(&seq) { 0 } else { seq % 3 }
}

/// A ledger in the encoding that [`Toy`] reads.
pub fn ledger(seq: u32) -> Vec<u8> {
    let mut raw = [&seq.to_be_bytes()[..], &i64::from(seq).to_be_bytes()].concat();
    for tx in 0..transactions(seq) {
        raw.extend(hash(seq, tx).0);
        let events = (seq + tx) % 3;
        raw.push(events as u8);
        for event in 0..events {
            let body = [event as u8, tx as u8, (seq % 5) as u8, 9, 9, seq as u8];
            raw.push(body.len() as u8);
            raw.extend(body);
        }
    }
    raw
}

/// The whole chain as far as it has come, for asking by sequence.
#[derive(Debug)]
pub struct Chain {
    pub tip: AtomicU32,
    /// How many streams were opened.
    pub streams: AtomicU64,
}

impl Chain {
    pub fn new(tip: u32) -> Arc<Self> {
        Arc::new(Chain { tip: AtomicU32::new(tip), streams: AtomicU64::new(0) })
    }

    pub fn grow_to(&self, tip: u32) {
        self.tip.store(tip, SeqCst);
    }
}

impl Source for Chain {
    fn describe(&self) -> String {
        "the test chain".to_owned()
    }

    fn range(&self) -> Result<LedgerRange> {
        let tip = self.tip.load(SeqCst);
        LedgerRange::new(LedgerSeq(2), LedgerSeq(tip))
            .map_err(|_| icecore_ledger::Error::Empty { place: self.describe() })
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        self.streams.fetch_add(1, SeqCst);
        let has = self.range()?;
        if has.intersect(ledgers) != Some(ledgers) {
            return Err(icecore_ledger::Error::OutOfRange { place: self.describe(), has, wanted: ledgers });
        }
        Ok(Box::new(ChainStream { next: ledgers.first.0, last: ledgers.last.0, raw: Vec::new() }))
    }
}

/// A source that claims to have come further than it has.
pub struct Claims {
    pub chain: Arc<Chain>,
    pub tip: u32,
}

impl Source for Claims {
    fn describe(&self) -> String {
        self.chain.describe()
    }

    fn range(&self) -> Result<LedgerRange> {
        Ok(LedgerRange { last: LedgerSeq(self.tip), ..self.chain.range()? })
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        self.chain.stream(ledgers)
    }
}

/// A chain whose streams block, and whose range fails, for as long as told.
pub struct Gate {
    pub chain: Arc<Chain>,
    pub is_shut: AtomicBool,
    pub is_broken: AtomicBool,
    /// How many wait now, and the most that ever did.
    pub waiting: AtomicU64,
    pub most: AtomicU64,
}

impl Gate {
    pub fn new(tip: u32) -> Arc<Self> {
        Arc::new(Gate {
            chain: Chain::new(tip),
            is_shut: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            most: AtomicU64::new(0),
        })
    }
}

impl Source for Gate {
    fn describe(&self) -> String {
        self.chain.describe()
    }

    fn range(&self) -> Result<LedgerRange> {
        if self.is_broken.load(SeqCst) {
            let source = Arc::new(std::io::Error::other("broken"));
            return Err(icecore_ledger::Error::Io { place: self.describe(), source });
        }
        self.chain.range()
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        let waiting = self.waiting.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(waiting, SeqCst);
        while self.is_shut.load(SeqCst) {
            thread::park_timeout(Duration::from_millis(1));
        }
        self.waiting.fetch_sub(1, SeqCst);
        self.chain.stream(ledgers)
    }
}

struct ChainStream {
    next: u32,
    last: u32,
    raw: Vec<u8>,
}

impl LedgerStream for ChainStream {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        if self.next > self.last {
            return Ok(None);
        }
        self.raw = ledger(self.next);
        self.next += 1;
        Ok(Some(RawLedger { seq: LedgerSeq(self.next - 1), bytes: &self.raw }))
    }
}

/// What a live source does next.
#[derive(Clone, Debug)]
pub enum Act {
    /// Gives a ledger, under its own number.
    Give(u32),
    /// Gives a ledger under another number.
    Lie { said: u32, gave: u32 },
    /// Ends the stream.
    End,
}

/// A live source that acts as told, and then is silent until it is told to stop.
#[derive(Debug, Default)]
pub struct Script {
    acts: Mutex<VecDeque<Act>>,
    pub opened: AtomicU64,
}

impl Script {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Script { acts: Mutex::new(acts.into_iter().collect()), opened: AtomicU64::new(0) })
    }

    pub fn push(&self, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().extend(acts);
    }
}

impl LiveSource for Script {
    fn describe(&self) -> String {
        "the test's live source".to_owned()
    }

    fn open<'a>(
        &'a self,
        _from: LedgerSeq,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Box<dyn LiveStream + 'a>> {
        self.opened.fetch_add(1, SeqCst);
        Ok(Box::new(ScriptStream { script: self, stop, raw: Vec::new() }))
    }
}

struct ScriptStream<'a> {
    script: &'a Script,
    stop: &'a (dyn Fn() -> bool + Sync),
    raw: Vec<u8>,
}

impl LiveStream for ScriptStream<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        loop {
            let act = self.script.acts.lock().unwrap().pop_front();
            let (said, gave) = match act {
                Some(Act::Give(seq)) => (seq, seq),
                Some(Act::Lie { said, gave }) => (said, gave),
                Some(Act::End) => {
                    let place = self.script.describe();
                    return Err(icecore_ledger::Error::Ended { place, how: "the script says so".to_owned() });
                }
                None if (self.stop)() => return Ok(None),
                None => {
                    thread::yield_now();
                    continue;
                }
            };
            self.raw = ledger(gave);
            return Ok(Some(RawLedger { seq: LedgerSeq(said), bytes: &self.raw }));
        }
    }
}

/// A configuration of small chunks that waits for nothing.
pub fn config(root: &std::path::Path) -> EngineConfig {
    let mut config = EngineConfig::new(root);
    config.geometry = Geometry::new(GEOMETRY.0, GEOMETRY.1).unwrap();
    config.workers = 2;
    config.poll = Duration::from_millis(1);
    config.retry_pause = Duration::from_millis(1);
    config.max_retries = 1;
    config.bulk_wait = Duration::from_millis(300);
    config.grace = Duration::from_millis(20);
    config.allow_full_disk = true;
    config
}

pub fn open(
    config: EngineConfig,
    chain: &Arc<Chain>,
    live: Option<Arc<Script>>,
) -> icecore_engine::Result<Engine> {
    let bulk: Arc<dyn Source> = Arc::clone(chain) as _;
    let live = live.map(|live| live as Arc<dyn LiveSource>);
    Engine::open(config, Sources { bulk, live }, Arc::new(Toy))
}

pub fn leaping() -> Arc<LeapingClock> {
    Arc::new(LeapingClock::default())
}

/// Waits until something is so, but not for ever.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Waits until ingestion has come so far and everything is built.
pub fn until_settled(engine: &Engine, latest: u32) {
    let begun = Instant::now();
    loop {
        let status = engine.status();
        assert_eq!(status.fatal, None);
        if status.latest >= Some(latest) && status.is_settled {
            return;
        }
        let patient = begun.elapsed() < Duration::from_secs(30);
        assert!(patient, "waited in vain until ledger {latest} is there and all is built: {status:#?}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Panics unless every ledger, transaction and event from `first` to `last` is answered, and nothing before it.
pub fn check_reads(view: &View, first: u32, last: u32) {
    let range = view.range().unwrap();
    assert_eq!((range.first.0, range.last.0), (first, last), "what the view says of itself");
    for seq in first..=last {
        let found = view.ledger(LedgerSeq(seq)).unwrap_or_else(|e| panic!("ledger {seq}: {e}"));
        assert!(found.raw == ledger(seq), "ledger {seq} is another one");
        for tx in 0..transactions(seq) {
            let found = view.transaction(&hash(seq, tx)).unwrap_or_else(|e| panic!("hash of {seq}: {e}"));
            assert_eq!(found.unwrap_or_else(|| panic!("hash {tx} of {seq} is not found")).seq.0, seq);
        }
    }
    assert_eq!(view.transaction(&hash(last, 77)).unwrap(), None);
    for seq in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
        assert!(
            matches!(view.ledger(LedgerSeq(seq)), Err(Error::OutOfBounds { .. })),
            "ledger {seq} is served"
        );
        for tx in 0..transactions(seq) {
            assert!(view.transaction(&hash(seq, tx)).unwrap().is_none(), "hash of {seq} is served");
        }
    }
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(paged_events(view, order, &[]), expected_events(first, last, order, |_| true));
        let filter = Filter::any().contract([1]);
        assert_eq!(
            paged_events(view, order, &[filter]),
            expected_events(first, last, order, |body| body[0] == 1)
        );
    }
}

/// All events of a view, page by page.
pub fn paged_events(view: &View, order: Order, filters: &[Filter]) -> Vec<(u32, Vec<u8>)> {
    let (mut found, mut span) = (Vec::new(), Span { order, ..Span::default() });
    loop {
        let page = view.events(&span, filters, 3).unwrap();
        found.extend(page.items.into_iter().map(|event| (event.ledger.0, event.body)));
        assert_ne!(span.after, Some(page.cursor), "a page gets ahead");
        span.after = Some(page.cursor.to_string().parse().unwrap());
        if page.is_last {
            return found;
        }
    }
}

pub fn expected_events(
    first: u32,
    last: u32,
    order: Order,
    passes: impl Fn(&[u8]) -> bool,
) -> Vec<(u32, Vec<u8>)> {
    let mut events = Vec::new();
    for seq in first..=last {
        let raw = ledger(seq);
        let decoded = Toy.decode(&raw).unwrap();
        let own = decoded.events.iter().filter(|event| passes(event.body));
        events.extend(own.map(|event| (seq, event.body.to_vec())));
    }
    if order == Order::Descending {
        events.reverse();
    }
    events
}
