//! A toy chain for tests: an event's body is its five fields, each a length byte (255 = absent) and the value, and then
//! whatever else there is.

use icecore_ledger::{Decoded, Decoder, Error, Event, EventFields, LedgerSeq, MAX_TOPICS, Result, TxHash};

pub struct Toy;

impl Decoder for Toy {
    fn decode<'a>(&self, _: &'a [u8]) -> Result<Decoded<'a>> {
        Err(Error::Malformed { what: "toy ledger", offset: 0, why: "the toy chain has events only".into() })
    }

    fn event_fields<'a>(&self, body: &'a [u8]) -> Result<EventFields<'a>> {
        let mut rest = body;
        let mut fields = [None; 1 + MAX_TOPICS];
        for field in &mut fields {
            let offset = (body.len() - rest.len()) as u64;
            let short = || Error::Malformed { what: "toy event", offset, why: "it ends early".into() };
            let (&len, tail) = rest.split_first().ok_or_else(short)?;
            let len = if len == 255 { 0 } else { usize::from(len) + 1 };
            let (value, tail) = tail.split_at_checked(len.saturating_sub(1)).ok_or_else(short)?;
            *field = (len > 0).then_some(value);
            rest = tail;
        }
        let [contract, topics @ ..] = fields;
        Ok(EventFields { contract, topics })
    }
}

pub struct Ledger {
    pub seq: LedgerSeq,
    pub closed_at: i64,
    pub events: Vec<ToyEvent>,
}

pub struct ToyEvent {
    pub coordinates: [u32; 3],
    pub body: Vec<u8>,
}

impl ToyEvent {
    fn event(&self) -> Event<'_> {
        let [tx_index, op_index, event_index] = self.coordinates;
        let tx_hash = TxHash([tx_index as u8; 32]);
        let fields = Toy.event_fields(&self.body).unwrap();
        Event { tx_hash, tx_index, op_index, event_index, body: &self.body, fields }
    }
}

impl Ledger {
    pub fn events(&self) -> Vec<Event<'_>> {
        self.events.iter().map(ToyEvent::event).collect()
    }
}

/// The value of a field, from a vocabulary of a few words; short and long ones.
pub fn word(number: u64) -> Vec<u8> {
    vec![b'a' + number as u8; 1 + (number as usize % 3) * 20]
}

/// Some ledgers. `below(n)` gives numbers below `n`.
pub fn ledgers(
    first: LedgerSeq,
    count: u32,
    max_events: u64,
    below: &mut dyn FnMut(u64) -> u64,
) -> Vec<Ledger> {
    let mut ledger = |i| {
        let mut at = [0, 0, 0];
        let events = (0..below(max_events + 1)).map(|_| event(&mut at, below)).collect();
        Ledger { seq: LedgerSeq(first.0 + i), closed_at: 1000 + 5 * i64::from(i), events }
    };
    (0..count).map(&mut ledger).collect()
}

fn event(at: &mut [u32; 3], below: &mut dyn FnMut(u64) -> u64) -> ToyEvent {
    match below(4) {
        0 => *at = [at[0] + 1, 0, 0],
        1 => *at = [at[0], at[1] + 1, 0],
        _ => at[2] += 1,
    }
    let mut body = Vec::new();
    let topics = below(1 + MAX_TOPICS as u64);
    for field in 0..=MAX_TOPICS as u64 {
        if field > topics || (field == 0 && below(8) == 0) {
            body.push(255);
            continue;
        }
        let value = word(below(if field == 2 { 20 } else { 3 }));
        body.push(value.len() as u8);
        body.extend(value);
    }
    body.extend(std::iter::repeat_n(7, below(5) as usize));
    ToyEvent { coordinates: *at, body }
}
