//! What goes to a broker arrives if, and only if, its order was placed, and has its effect once although the broker delivers
//! it again.

use std::process::Command;

use tcc_tests::Broker;

fn tells(program: &str, broker: &Broker) {
    let run = Command::new(program).arg(format!("127.0.0.1:{}", broker.port())).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let expected = "\
order 1: placed
order 2: the local transaction failed
order 3: placed
order/1~points: credited
order/1~points: it was credited before
order/3~points: credited
order/3~points: it was credited before
placed: [1, 3]; with points: [1, 3]
";
    assert_eq!(said, expected);
}

#[cfg(feature = "rabbitmq")]
#[test]
fn points_by_rabbitmq_are_credited_once() {
    let Some(broker) = Broker::rabbitmq() else { return };
    tells(env!("CARGO_BIN_EXE_rabbitmq"), &broker);
}

#[cfg(feature = "kafka")]
#[test]
fn points_by_kafka_are_credited_once() {
    let Some(broker) = Broker::kafka(None) else { return };
    tells(env!("CARGO_BIN_EXE_kafka"), &broker);
}
