//! Two payments of which a shop is told: once it listens, once it does not, and then it does again.

use std::sync::atomic::Ordering;

use tcc_examples::notification::Payments;

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    let folder = tempfile::tempdir()?;
    let mut payments = Payments::open(folder.path()).await?;
    println!("payment 1: {}", payments.tell(1).await?.as_str());

    payments.shop_is_open.store(false, Ordering::SeqCst);
    println!("payment 2: {}", payments.tell(2).await?.as_str());
    let alert = payments.alert().await?;
    println!("the operator hears of {}: {}", alert["gid"], alert["attention"]);

    payments.shop_is_open.store(true, Ordering::SeqCst);
    println!("payment 2, again: {}", payments.tell_again(2).await?.as_str());
    println!("calls of the shop: {}", payments.calls.load(Ordering::SeqCst));
    Ok(())
}
