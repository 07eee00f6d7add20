//! Spans of batches.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use super::{
    door::{Door, HOUR, behind},
    support::LIMIT,
};
use crate::Batcher;

/// Which spans there were, and which followed from which.
#[derive(Clone, Default)]
struct Spans {
    names: Arc<Mutex<BTreeMap<u64, &'static str>>>,
    links: Arc<Mutex<Vec<(u64, u64)>>>,
    events: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        self.names.lock().unwrap().insert(id.into_u64(), attributes.metadata().name());
    }

    fn on_follows_from(&self, span: &Id, follows: &Id, _: Context<'_, S>) {
        self.links.lock().unwrap().push((span.into_u64(), follows.into_u64()));
    }

    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        self.events.fetch_add(1, SeqCst);
    }

    fn on_record(&self, _: &Id, _: &Record<'_>, _: Context<'_, S>) {}

    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        true
    }
}

#[test]
fn batches_follow_from_their_submitters() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::with_default(subscriber, || {
        let batcher = behind(&Door::open(), Batcher::builder().size(4).timeout(HOUR).spans(true));
        // A group over three batches, whose link is on the first; and one item more in the last batch.
        let group = tracing::info_span!("group").in_scope(|| batcher.submit_many((0..10).collect()).unwrap());
        let single = tracing::info_span!("single").in_scope(|| batcher.submit(10).unwrap());
        batcher.close(LIMIT).unwrap();
        drop((group, single));
    });
    let names = spans.names.lock().unwrap();
    let batches: Vec<u64> = names.iter().filter(|(_, name)| **name == "batch").map(|(id, _)| *id).collect();
    assert_eq!(batches.len(), 3);
    let mut links: Vec<_> = spans.links.lock().unwrap().iter().map(|(span, of)| (*span, names[of])).collect();
    links.sort_unstable();
    assert_eq!(links, [(batches[0], "group"), (batches[2], "single")]);
}
