//! Two coordinators in one process count each their own.

use tcc_core::Phase;

use crate::scripted::{Bench, Script, order, status};

#[tokio::test]
async fn each_coordinator_counts_what_it_did_itself() {
    let script = Script::new(|_| async { status(200) });
    let (busy, idle) = (Bench::new(&script), Bench::new(&script));
    let known = busy.begin(&order("g")).await.unwrap();
    assert_eq!(busy.ends(known).await, Phase::Confirmed);
    let confirmed = |many: u32| format!("tcc_transactions_finished_total{{outcome=\"Confirmed\"}} {many}\n");
    let told = busy.coordinator.metrics().await;
    assert!(told.contains(&confirmed(1)) && told.contains("tcc_transactions_started_total 1\n"), "{told}");
    assert!(told.contains("tcc_branch_calls_total{operation=\"try\",result=\"done\"} 2\n"), "{told}");
    let told = idle.coordinator.metrics().await;
    assert!(told.contains(&confirmed(0)) && told.contains("tcc_transactions_started_total 0\n"), "{told}");
}
