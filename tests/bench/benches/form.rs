//! Reading a body, from the usual one to the longest that is accepted.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use n4n_gateway::policy::{Lookup, Patterns};
use std::hint::black_box;

fn form(criterion: &mut Criterion) {
    let patterns = Patterns::default();
    let mut group = criterion.benchmark_group("form");
    for (name, body, passes) in [
        ("one key", "customer_id=191".to_owned(), true),
        ("one key, escaped", "customer%5Fid=%31%39%31".to_owned(), true),
        ("two keys", "customer_id=191&orderid=7".to_owned(), false),
        ("empty pieces, 8 KiB", format!("{}orderid=7", "&".repeat(8183)), true),
        ("unknown names, 8 KiB", "a=1&".repeat(2048), false),
        ("escapes, 8 KiB", format!("customer_id={}", "%41".repeat(2726)), false),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            assert_eq!(Lookup::of(body.as_bytes(), &patterns).is_ok(), passes);
            bencher.iter(|| Lookup::of(black_box(body.as_bytes()), &patterns));
        });
    }
    group.finish();
}

criterion_group!(benches, form);
criterion_main!(benches);
