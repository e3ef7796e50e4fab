//! What the process takes of its machine, by the names that every Prometheus client uses. On Linux, which tells it in
//! `/proc`; elsewhere nothing is told.

use std::fs;

use super::text::Text;
use crate::limits;

/// Clock ticks in a second, in which Linux tells times, whatever the kernel's own.
const TICKS: f64 = 100.0;

/// Adds what is known.
pub(super) fn tell(text: &mut Text) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name, in which anything may stand.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // As counted in proc(5), where the first field here is the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
    text.seconds("process_cpu_seconds_total", "CPU time that the process took.", cpu);
    let help = "Memory that the process holds.";
    text.gauge(
        "process_resident_memory_bytes",
        help,
        field(24).map(|pages| pages * limits::PAGE_BYTES as f64),
    );
    text.gauge("process_virtual_memory_bytes", "Addresses that the process holds.", field(23));
    text.gauge("process_threads", "Threads of the process.", field(20));
    let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    text.gauge("process_open_fds", "Open file descriptors.", open);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = most.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    text.gauge("process_max_fds", "File descriptors that may be open.", most);
    let booted = fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
    let started = booted.zip(field(22)).map(|(booted, ticks)| booted + ticks / TICKS);
    text.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", started);
}
