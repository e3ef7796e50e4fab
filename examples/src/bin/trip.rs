//! A trip as a saga, twice: once there is a car, once there is none.

use tcc_examples::trip;

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    for cars in [1, 0] {
        let folder = tempfile::tempdir()?;
        let trip = trip::book(folder.path(), [("flight", 9), ("hotel", 9), ("car", cars)]).await?;
        println!("A trip; of cars there are {cars}.");
        for (operation, branch, outcome) in &trip.calls {
            let name = if operation == "try" { "book" } else { "give back" };
            println!("  {name} {branch}: {outcome}");
        }
        println!(
            "  {}{}",
            trip.phase.as_str(),
            trip.reason.map(|why| format!(": {why}")).unwrap_or_default()
        );
        let left: Vec<String> = trip.left.iter().map(|(name, free)| format!("{free} {name}")).collect();
        println!("  left: {}\n", left.join(", "));
    }
    Ok(())
}
