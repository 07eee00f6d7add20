//! Shared clients: one for each endpoint, closed and gone in one step.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use super::support::{Gate, LIMIT, Log, within};
use crate::{BoxError, ClientPool, PoolError, Scheme};

const KV: &str = "kv://db.example";

/// What there is to know about the clients of a test.
#[derive(Default)]
struct Server {
    connects: AtomicUsize,
    live: AtomicUsize,
    closes: AtomicUsize,
}

struct Client {
    server: Arc<Server>,
    number: usize,
}

impl Server {
    /// Connects; no two clients of a server may be live at once, unless the test says so.
    fn connect(self: &Arc<Self>, max_live: usize) -> Result<Client, BoxError> {
        let live = self.live.fetch_add(1, SeqCst) + 1;
        assert!(live <= max_live, "{live} clients are live");
        Ok(Client { server: Arc::clone(self), number: self.connects.fetch_add(1, SeqCst) + 1 })
    }

    fn counts(&self) -> [usize; 3] {
        [&self.connects, &self.live, &self.closes].map(|count| count.load(SeqCst))
    }
}

fn close(client: Client) -> Result<(), BoxError> {
    thread::yield_now();
    client.server.closes.fetch_add(1, SeqCst);
    client.server.live.fetch_sub(1, SeqCst);
    Ok(())
}

fn pool() -> (ClientPool<Client>, Arc<Server>) {
    (ClientPool::new(&[Scheme::host("kv", 3000)], close), Arc::default())
}

#[test]
fn client_refcount() {
    within("client_refcount", || {
        let (pool, server) = pool();
        let one = pool.acquire(KV, || server.connect(1)).unwrap();
        let two = pool.acquire(KV, || server.connect(1)).unwrap();
        let three = two.clone();
        one.release().unwrap();
        three.release().unwrap();
        assert_eq!((two.number, server.counts()), (1, [1, 1, 0]));
        two.release().unwrap();
        assert_eq!(server.counts(), [1, 0, 1]);
        assert!(!pool.evict(KV).unwrap(), "a closed client is still in the pool");
        let again = pool.acquire(KV, || server.connect(1)).unwrap();
        assert_eq!((again.number, again.generation(), server.counts()), (2, 2, [2, 1, 1]));
    });
}

#[test]
fn acquire_vs_last_release() {
    within("acquire_vs_last_release", || {
        let (pool, server) = pool();
        thread::scope(|scope| {
            for worker in 0..8 {
                let (pool, server) = (&pool, &server);
                scope.spawn(move || {
                    for round in 0..500 {
                        let lease = pool.acquire(KV, || server.connect(1)).unwrap();
                        assert!(lease.server.live.load(SeqCst) == 1, "the client is closed");
                        if (worker + round) % 3 > 0 {
                            lease.release().unwrap();
                        }
                    }
                });
            }
        });
        drop(pool);
        let [connects, live, closes] = server.counts();
        assert_eq!((live, closes), (0, connects));
    });
}

#[test]
fn bad_key_is_error() {
    let (pool, server) = pool();
    let good = pool.acquire(KV, || server.connect(1)).unwrap();
    for bad in ["db.example", "db.example:3000", "kv:db.example", "nfs://db.example", "kv://db.example:x", ""]
    {
        let acquired = pool.acquire(bad, || server.connect(0));
        assert!(matches!(acquired, Err(PoolError::Endpoint(_))), "{bad:?}");
        assert!(pool.evict(bad).is_err(), "{bad:?} was evicted, or so it seems");
    }
    assert_eq!((good.number, server.counts()), (1, [1, 1, 0]));
}

#[test]
fn client_shared_by_all_spellings() {
    let (pool, server) = pool();
    let leases: Vec<_> = ["kv://u@db.example", "KV://u@DB.example:3000/", "kv://%75:secret@db.example:03000"]
        .map(|spelling| pool.acquire(spelling, || server.connect(1)).unwrap())
        .into();
    assert_eq!(leases.iter().map(|lease| lease.generation()).collect::<BTreeSet<_>>().len(), 1);
    let other = pool.acquire("kv://v@db.example", || server.connect(2)).unwrap();
    assert_eq!(other.generation(), 2);
}

#[test]
fn first_acquires_share_one_connect() {
    within("first_acquires_share_one_connect", || {
        for fails in [false, true] {
            let (pool, server) = pool();
            let (gate, connecting) = (Gate::default(), Gate::default());
            thread::scope(|scope| {
                let first = scope.spawn(|| {
                    pool.acquire(KV, || {
                        connecting.open();
                        gate.wait();
                        if fails { Err("refused".into()) } else { server.connect(1) }
                    })
                });
                connecting.wait();
                let rest: Vec<_> =
                    (0..7).map(|_| scope.spawn(|| pool.acquire(KV, || server.connect(0)))).collect();
                while pool.waiting(KV) < 7 {
                    thread::yield_now();
                }
                gate.open();
                for acquired in std::iter::once(first).chain(rest).map(|thread| thread.join().unwrap()) {
                    assert_eq!(acquired.is_err(), fails);
                    assert!(acquired.err().is_none_or(|error| error.to_string().contains("refused")));
                }
            });
            let generation = pool.acquire(KV, || server.connect(1)).unwrap().generation();
            assert!(generation > 1, "the failure, or a client without leases, was kept");
        }
    });
}

#[test]
fn failed_connect_is_not_cached() {
    within("failed_connect_is_not_cached", || {
        let (pool, server) = pool();
        let refused = pool.acquire(KV, || Err::<Client, BoxError>("refused".into()));
        assert!(matches!(refused, Err(PoolError::Connect { .. })));
        let panicked = pool.acquire(KV, || -> Result<Client, BoxError> { panic!("no route") });
        assert!(panicked.unwrap_err().to_string().contains("no route"));
        assert_eq!(pool.acquire(KV, || server.connect(1)).unwrap().number, 1);
    });
}

#[test]
fn evicted_client_lives_on_for_its_leases() {
    within("evicted_client_lives_on_for_its_leases", || {
        let (pool, server) = pool();
        let old = pool.acquire(KV, || server.connect(2)).unwrap();
        assert!(pool.evict("kv://DB.EXAMPLE:3000").unwrap());
        assert!(!pool.evict(KV).unwrap());
        let new = pool.acquire(KV, || server.connect(2)).unwrap();
        assert_eq!((old.number, new.number, server.counts()), (1, 2, [2, 2, 0]));
        old.release().unwrap();
        let shared = pool.acquire(KV, || server.connect(0)).unwrap();
        assert_eq!((shared.generation(), server.counts()), (2, [2, 1, 1]));
    });
}

#[test]
fn pool_owned_by_its_last_client() {
    within("pool_owned_by_its_last_client", || {
        struct Owner {
            _pool: Arc<ClientPool<Owner>>,
            gate: Arc<Gate>,
        }
        let pool = Arc::new(ClientPool::new(&[Scheme::host("kv", 3000)], |owner: Owner| {
            owner.gate.wait();
            drop(owner);
            Ok::<_, BoxError>(())
        }));
        let gate = Arc::new(Gate::default());
        let owner = Owner { _pool: Arc::clone(&pool), gate: Arc::clone(&gate) };
        let lease = pool.acquire(KV, || Ok::<_, BoxError>(owner)).unwrap();
        let done = lease.release_async();
        drop(pool);
        gate.open();
        assert!(done.wait_timeout(LIMIT).unwrap().is_ok());
    });
}

#[test]
fn release_reports_drop_closes() {
    within("release_reports_drop_closes", || {
        let closed = Arc::new(AtomicUsize::new(0));
        let close = {
            let closed = Arc::clone(&closed);
            move |message: &'static str| {
                closed.fetch_add(1, SeqCst);
                if message == "panic" { panic!("torn") } else { Err::<(), BoxError>(message.into()) }
            }
        };
        let pool = ClientPool::new(&[Scheme::host("kv", 3000)], close);
        let acquire = |client| pool.acquire(KV, move || Ok::<_, BoxError>(client)).unwrap();
        for (client, said) in [("broken", "broken"), ("panic", "torn")] {
            let lease = acquire(client);
            lease.clone().release().unwrap();
            let error = lease.release().unwrap_err();
            assert!(error.to_string().contains(said) && matches!(error, PoolError::Close { .. }), "{error}");
        }
        let told = acquire("told");
        assert!(told.clone().release_async().wait_timeout(LIMIT).unwrap().is_ok());
        let failure = told.release_async().wait_timeout(LIMIT).unwrap().unwrap_err();
        assert!(failure.to_string().contains("told"), "{failure}");
        drop(acquire("dropped"));
        let outlives_the_pool = acquire("panic");
        drop(pool);
        assert_eq!(closed.load(SeqCst), 4, "the pool's drop waits for what closes in the background");
        let log = Log::default();
        log.record(|| drop(outlives_the_pool));
        assert_eq!(closed.load(SeqCst), 5);
        assert!(log.text().contains("torn"), "{}", log.text());
    });
}
