//! Three orders while the coordinator is away, the second of them twice; then it starts, and the points come.

use tcc_examples::outbox::Shop;

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path()).await?;
    for number in [1, 2, 2, 3] {
        match shop.place(number).await {
            Ok(()) => println!("order {number}: placed"),
            Err(error) => println!("order {number}: {error}"),
        }
    }
    println!("waiting in the outbox: {}", shop.waiting().await?);
    let _scheduler = shop.start_coordinator(folder.path()).await?;
    let (orders, points) = shop.books.balanced().await?;
    println!("placed: {orders:?}; with points: {points:?}");
    Ok(())
}
