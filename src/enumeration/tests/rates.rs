//! Whom the limit misses and whom it accuses wrongly, over seeded traffic.

use super::*;

/// Who asks, and how it went.
struct Traffic {
    calls: Vec<(Duration, Value, bool)>,
}

impl Traffic {
    /// Asks for a new value at each of these times; n4n knows so many in a hundred.
    fn of(times: impl Iterator<Item = Duration>, known: u64, seeded: &mut Seeded) -> Self {
        let mut call = |at| (at, seeded.value(), seeded.below(100) < known);
        Self { calls: times.map(&mut call).collect() }
    }

    /// An operator's customers at random times of a span, one in ten mistyped first.
    fn by_hand(customers: u64, span: Duration, seeded: &mut Seeded) -> Self {
        let mut calls = Vec::new();
        for _ in 0..customers {
            let at = Duration::from_millis(seeded.below(span.as_millis() as u64));
            if seeded.below(10) == 0 {
                calls.push((at, seeded.value(), false));
            }
            calls.push((at + Duration::from_secs(10), seeded.value(), true));
        }
        calls.sort_by_key(|(at, ..)| *at);
        Self { calls }
    }

    /// The same values over and over.
    fn repeated(values: usize, every: Duration, span: Duration, is_known: bool, seeded: &mut Seeded) -> Self {
        let values: Vec<_> = (0..values).map(|_| seeded.value()).collect();
        let times = (0..).map(|number| every * number).take_while(|at| *at < span);
        Self { calls: times.zip(values.iter().cycle()).map(|(at, value)| (at, *value, is_known)).collect() }
    }

    /// How many calls pass before the first that does not, and in all.
    fn run(&self, distinct: u32, is_refused: bool) -> (Option<usize>, usize) {
        let start = Instant::now();
        let watch = Watch::open(limit(distinct), None, start);
        let (mut first, mut passed) = (None, 0);
        for (at, value, is_known) in &self.calls {
            let asked = watch.watched().ask(*value, start + *at, is_refused);
            if asked.suspicion.is_some() {
                first = first.or(Some(passed));
                if is_refused {
                    continue;
                }
                break;
            }
            passed += 1;
            if !is_known {
                watch.watched().missed(&asked, start + *at);
            }
        }
        (first, passed)
    }
}

fn every(pause: Duration, span: Duration) -> impl Iterator<Item = Duration> {
    (0..).map(move |number| pause * number).take_while(move |at| *at < span)
}

/// Runs one sort of traffic so often; a line of the published table.
fn line(
    what: &str,
    distinct: u32,
    runs: usize,
    is_hostile: bool,
    traffic: impl Fn(&mut Seeded) -> Traffic,
) -> String {
    let mut seeded = Seeded(runs as u64 + u64::from(distinct));
    let mut firsts = Vec::new();
    let mut passed = Vec::new();
    for _ in 0..runs {
        let traffic = traffic(&mut seeded);
        firsts.extend(traffic.run(distinct, false).0);
        passed.push(traffic.run(distinct, true).1);
    }
    let suspected = firsts.len();
    firsts.sort_unstable();
    passed.sort_unstable();
    let median = |sorted: &[usize]| sorted.get(sorted.len() / 2).map_or("–".into(), ToString::to_string);
    let rate = if is_hostile { runs - suspected } else { suspected };
    #[expect(clippy::cast_precision_loss, reason = "counts to some thousands")]
    let percent = rate as f64 * 100.0 / runs as f64;
    let reached = if is_hostile { median(&passed) } else { "–".into() };
    let kind = if is_hostile { "missed" } else { "false alarms" };
    format!("| {what} | {distinct} | {kind} {percent:.1} % | {} | {reached} |", median(&firsts))
}

#[test]
fn the_published_rates_are_those_of_this_build() {
    let day = HOUR * 8;
    let second = Duration::from_secs(1);
    let walk = |pause, known| move |seeded: &mut Seeded| Traffic::of(every(pause, day), known, seeded);
    let rows = [
        line("an operator, 30 customers a day, one in ten mistyped first", 50, 4000, false, |seeded| {
            Traffic::by_hand(30, day, seeded)
        }),
        line("the same 30 within one hour", 50, 4000, false, |seeded| Traffic::by_hand(30, HOUR, seeded)),
        line("a script that repeats 5, every 10 s", 50, 20, false, |seeded| {
            Traffic::repeated(5, second * 10, day, true, seeded)
        }),
        line("the same, n4n refusing all 5", 50, 20, false, |seeded| {
            Traffic::repeated(5, second * 10, day, false, seeded)
        }),
        line("a service desk's account, 400 customers an hour", 500, 20, false, walk(second * 9, 100)),
        line("the same, 450 an hour", 500, 20, false, walk(second * 8, 100)),
        line("a walk at one a minute, n4n knows all", 50, 200, true, walk(MINUTE, 100)),
        line("the same, n4n knows one in two", 50, 200, true, walk(MINUTE, 50)),
        line("the same, n4n knows none", 50, 200, true, walk(MINUTE, 0)),
        line("a walk at one in 80 s, n4n knows all", 50, 200, true, walk(second * 80, 100)),
        line("the same, n4n knows nine in ten", 50, 200, true, walk(second * 80, 90)),
        line("a walk at one a second, n4n knows all", 50, 2, true, walk(second, 100)),
        line("the same, n4n knows one in ten", 50, 2, true, walk(second, 10)),
        line("a walk at one in 6 s, n4n knows all", 500, 10, true, walk(second * 6, 100)),
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md");
    let published = std::fs::read_to_string(path).unwrap();
    let is_published = rows.iter().all(|row| published.contains(row.as_str()));
    assert!(is_published, "publish these in deploy/README.md:\n{}", rows.join("\n"));
}
