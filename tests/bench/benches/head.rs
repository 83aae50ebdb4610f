//! Finding a head's end and judging its framing, then what it says.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use bytes::Bytes;
use n4n_gateway::{
    policy::{Credentials, path},
    wire::{HeadScanner, RequestHead},
};

const CALL: &str = "PATCH /api/customer/unlock HTTP/1.1\r\nHost: n4n.example.com\r\nUser-Agent: billing/2.1\r\n\
    Accept: application/json\r\napi-key: 0123456789abcdef0123456789abcdef\r\napi-username: n4n_admin\r\n\
    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n\r\n";

fn head(criterion: &mut Criterion) {
    let many: String =
        (0..57).map(|number| format!("x-field-{number}: a value of some length\r\n")).collect();
    let long = CALL.replace("\r\n\r\n", &format!("\r\n{many}\r\n"));
    let mut group = criterion.benchmark_group("head");
    for (name, bytes) in [("a call's", CALL), ("64 fields", &long)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("framing, {name}"), |bencher| {
            bencher.iter(|| {
                let bytes = Bytes::from_owner(black_box(bytes.to_string()));
                let range = HeadScanner::default().scan(&bytes).expect("a sound head").expect("a whole one");
                black_box(RequestHead::read(bytes.slice(range)).expect("sound framing"))
            });
        });
    }
    group.finish();

    let head = RequestHead::read(Bytes::from_static(CALL.as_bytes())).expect("sound framing");
    let mut group = criterion.benchmark_group("call");
    group.bench_function("path, exact", |bencher| {
        bencher.iter(|| path::classify(black_box("/api/customer/unlock")));
    });
    group.bench_function("path, escaped", |bencher| {
        bencher.iter(|| path::classify(black_box("/x/%2e%2e/%2561pi;v=1//customer/%75nlock?a=b&c=d")));
    });
    group.bench_function("credentials", |bencher| {
        bencher.iter(|| Credentials::of(black_box(head.fields()), false).expect("both are there"));
    });
    group.finish();
}

criterion_group!(benches, head);
criterion_main!(benches);
