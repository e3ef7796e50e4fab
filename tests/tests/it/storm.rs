//! Everything at once: many transfers of both styles, while the coordinator and the banks are killed again and again.

use std::time::Duration;

use tcc_client::Decision::{Cancel, Confirm};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_when_every_transfer_ends_as_it_should() {
    let mut world = World::new().await;
    let transfers: Vec<Transfer> = (0..60)
        .map(|nth| {
            let transfer = Transfer::new(if nth % 2 == 0 { ByTheCoordinator } else { ByTheInitiator });
            if nth % 3 == 0 { transfer.refused() } else { transfer }
        })
        .collect();
    let mut running = JoinSet::new();
    for (transfer, nth) in transfers.iter().zip(0..) {
        let initiator = transfer.initiator(&world);
        running.spawn(async move {
            // Spread over the kills.
            sleep(Duration::from_millis(25 * nth)).await;
            initiator.run().await
        });
    }
    for nth in 0..9 {
        sleep(Duration::from_millis(120 + 17 * nth)).await;
        match nth % 3 {
            0 => {
                world.coordinator.kill().await;
                world.coordinator.start().await;
            }
            bank => {
                let bank = &world.banks[usize::try_from(bank - 1).expect("one of two")];
                bank.down().await;
                bank.up().await;
            }
        }
    }
    running.join_all().await;
    for (transfer, nth) in transfers.iter().zip(0..) {
        transfer.ended(&world, if nth % 3 == 0 { Cancel } else { Confirm }).await;
    }
}
