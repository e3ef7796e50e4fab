//! Everything at once: many transfers of both styles, while the coordinator and the banks are killed again and again.

use std::time::Duration;

use tokio::time::sleep;

use crate::transfer::{all_ended, load};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_when_every_transfer_ends_as_it_should() {
    let mut world = World::new().await;
    let apart = Duration::from_millis(25);
    let (transfers, running) = load(&world, 60, apart, |transfer| transfer);
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
    all_ended(&world, &transfers).await;
}
