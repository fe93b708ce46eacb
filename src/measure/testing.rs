//! How the cost of something grows: for tests of what is done for all devices of a depot.

/// The least of so many runs.
const RUNS: usize = 5;
/// Beyond this growth of ten times as many, each looks at all the others: 100. What is linear has 10, a tree some more.
pub(crate) const LINEAR: f64 = 40.0;

/// By what factor ten times as many take longer than `count`. `prepare` is not counted.
pub(crate) fn growth<T>(count: usize, prepare: impl Fn(usize) -> T, run: impl Fn(T)) -> f64 {
    let least = |count| {
        let timed = |_| {
            let prepared = prepare(count);
            let start = busy_ns();
            run(prepared);
            busy_ns() - start
        };
        (0..RUNS).map(timed).fold(f64::INFINITY, f64::min).max(1.0)
    };
    let few = least(count);
    least(10 * count) / few
}

/// The time for which this thread has had a processor: what else runs does not count (Documentation/scheduler/sched-stats.rst).
fn busy_ns() -> f64 {
    // It is counted when the thread gives its processor away.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("nanoseconds")
}
