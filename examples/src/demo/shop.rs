//! The run: customers order, all at once; at the scenes of the plan somebody is killed and comes back.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tcc_client::{BoxError, Client, Phase, Wait};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::books::{Outcome, inventory_db, payment_db};
use super::event::{Event, What, Who};
use super::plan::{Plan, Scene};
use super::process::Process;
use super::screen::Screen;
use crate::order::{Answer, Order};

/// Customers who order at the same time.
const AT_ONCE: usize = 16;
/// How long a killed process stays away: long enough for others to run into it.
const AWAY: Duration = Duration::from_millis(300);
/// How long one request to the order service may take: longer than the service waits for anything.
const REQUEST: Duration = Duration::from_secs(45);
/// How long a customer orders again, and how long everything may take to end after the last order.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes of the shop.
pub(super) struct Shop {
    pub(super) coordinator: Process,
    pub(super) payment: Process,
    pub(super) inventory: Process,
    order: Process,
    /// Asks the coordinator, as anybody can.
    tcc: Client,
}

impl Shop {
    pub(super) async fn open(
        folder: &Path,
        scenes: &[Scene],
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Self, BoxError> {
        let start = |who, arguments: Vec<(&str, String)>| {
            let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]);
            let (arguments, holds) = (arguments.collect(), Plan::holds(scenes, who));
            async move { Process::start(who, folder, arguments, &holds, events).await }
        };
        let db = |file: std::path::PathBuf| vec![("--db", file.display().to_string())];
        let (coordinator, payment, inventory) = tokio::try_join!(
            start(Who::Coordinator, db(folder.join("coordinator.db"))),
            start(Who::Payment, db(payment_db(folder))),
            start(Who::Inventory, db(inventory_db(folder))),
        )?;
        let peers = vec![
            ("--coordinator", coordinator.url("")),
            ("--payment", payment.url("/tcc/payment")),
            ("--inventory", inventory.url("/tcc/inventory")),
        ];
        let order = start(Who::Order, peers).await?;
        let (first, longest) = (Duration::from_millis(50), Duration::from_millis(200));
        let tcc = Client::builder(&coordinator.url("")).repeat_after(first, longest).build()?;
        Ok(Self { coordinator, payment, inventory, order, tcc })
    }

    /// Who is who.
    pub(super) fn introduce(&self, screen: &Screen) {
        for (process, does) in [
            (&self.coordinator, "has an order confirmed, or cancelled, everywhere"),
            (&self.payment, "participant: money available, or frozen"),
            (&self.inventory, "participant: goods available, reserved, or sold"),
            (&self.order, "initiator: by a closure if odd, submitted if even"),
        ] {
            let address = screen.ink.dim(&process.address.to_string());
            screen.say(&format!("  {:<11}  {address}  {does}", process.who.name()));
        }
        screen.say("");
    }

    /// Has all orders made, and everything come to its end. Returns what became of them, and all that was seen.
    pub(super) async fn run(
        &mut self,
        plan: &Plan,
        events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
        screen: &Screen,
    ) -> Result<(Vec<Outcome>, Vec<Event>), BoxError> {
        let (sender, receiver) = events;
        let (tcc, url) = (self.tcc.clone(), self.order.url("/orders"));
        let over = Notify::new();
        let customers = async {
            let told = customers(&plan.orders, &url, &sender, screen).await?;
            let ends = Instant::now() + PATIENCE;
            let outcomes = stream::iter(told).map(|(order, told)| outcome(&tcc, order, told, ends));
            let outcomes = outcomes.buffered(AT_ONCE).collect().await;
            // Nobody is held any more, so every scene was reached that can be.
            over.notify_one();
            Ok::<_, BoxError>(outcomes)
        };
        tokio::try_join!(customers, self.direct(&plan.scenes, receiver, &over, screen))
    }

    /// Watches what happens, and kills as the scenes say.
    async fn direct(
        &mut self,
        scenes: &[Scene],
        mut events: mpsc::UnboundedReceiver<Event>,
        over: &Notify,
        screen: &Screen,
    ) -> Result<Vec<Event>, BoxError> {
        let (mut scenes, mut seen, mut ends) = (scenes.to_vec(), Vec::new(), JoinSet::new());
        loop {
            let event = tokio::select! {
                biased;
                Some(event) = events.recv() => event,
                () = over.notified() => break,
            };
            let reached = scenes.iter().position(|scene| scene.is_reached_by(&event));
            seen.push(event);
            if let Some(reached) = reached {
                let scene = scenes.remove(reached);
                self.play(&scene, &scenes, &mut seen, screen).await?;
                ends.spawn(stands(self.tcc.clone(), scene.hold.gid, Wait::End));
            }
        }
        while let Some(end) = ends.join_next().await {
            seen.push(end??.1);
        }
        Ok(seen)
    }

    async fn play(
        &mut self,
        scene: &Scene,
        later: &[Scene],
        seen: &mut Vec<Event>,
        screen: &Screen,
    ) -> Result<(), BoxError> {
        let Scene { victim, at, hold, told } = scene;
        if *victim == Who::Coordinator {
            // What it tells it has stored: the decision is durable.
            let (phase, event) = stands(self.tcc.clone(), hold.gid.clone(), Wait::Stored).await?;
            seen.push(event);
            if phase.decision().is_none() {
                return Err(
                    format!("{}: somebody was told of a decision that is not in the log", hold.gid).into()
                );
            }
        }
        self.process(*victim)?.kill()?;
        seen.push(Event::now(*victim, &hold.gid, What::Killed));
        let name = format!("{:<11}", victim.name());
        screen.tell(&format!("{name}  {}  {told} ({})", screen.ink.red("SIGKILL"), hold.gid));
        sleep(AWAY).await;
        if victim != at {
            self.process(*at)?.lift(hold)?;
        }
        self.process(*victim)?.run(&Plan::holds(later, *victim)).await?;
        seen.push(Event::now(*victim, &hold.gid, What::Back));
        screen.tell(&format!("{name}  {}", screen.ink.green("back")));
        Ok(())
    }

    fn process(&mut self, who: Who) -> Result<&mut Process, BoxError> {
        match who {
            Who::Coordinator => Ok(&mut self.coordinator),
            Who::Payment => Ok(&mut self.payment),
            Who::Inventory => Ok(&mut self.inventory),
            Who::Order => Ok(&mut self.order),
            Who::Customer => Err("a customer is no process".into()),
        }
    }
}

/// Makes all orders, and returns what the order service said of each.
async fn customers<'o>(
    orders: &'o [Order],
    url: &str,
    events: &mpsc::UnboundedSender<Event>,
    screen: &Screen,
) -> Result<Vec<(&'o Order, Answer)>, BoxError> {
    let http = &reqwest::Client::builder().no_proxy().timeout(REQUEST).build()?;
    screen.begin(orders.len());
    let customers = stream::iter(orders).map(|order| async move {
        let say = |text: String| {
            let _ = events.send(Event::now(Who::Customer, order.number.as_str(), What::Customer(text)));
        };
        let Order { quantity, item, account, cents, .. } = order;
        say(format!("{account} orders {quantity} {item}, {}", super::report::money(i64::from(*cents))));
        let told = customer(http, url, order).await;
        match &told {
            Answer::Confirmed => {
                say("is told: confirmed".to_owned());
                screen.progress(|progress| progress.confirmed += 1);
            }
            Answer::Cancelled { reason } => {
                say(format!("is told: cancelled, {reason}"));
                screen.progress(|progress| progress.cancelled += 1);
            }
            Answer::Unknown { why } => say(format!("gives up: {why}")),
        }
        (order, told)
    });
    Ok(customers.buffer_unordered(AT_ONCE).collect().await)
}

/// Orders until the answer is known. The number stays the same, so nothing is ordered twice.
async fn customer(http: &reqwest::Client, url: &str, order: &Order) -> Answer {
    let ends = Instant::now() + PATIENCE;
    loop {
        let answer = async { http.post(url).json(order).send().await?.json::<Answer>().await };
        let why = match answer.await {
            Ok(answer @ (Answer::Confirmed | Answer::Cancelled { .. })) => return answer,
            Ok(Answer::Unknown { why }) => why,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= ends {
            return Answer::Unknown { why };
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Asks the coordinator where an order stands.
async fn stands(tcc: Client, gid: String, wait: Wait) -> Result<(Phase, Event), BoxError> {
    let phase = tcc.wait(&gid.parse()?, wait, PATIENCE).await?.phase();
    Ok((phase, Event::now(Who::Coordinator, &gid, What::Stands(phase.as_str().to_owned()))))
}

/// Where the coordinator says the order stands, once it has ended or the time is over.
async fn outcome(tcc: &Client, order: &Order, told: Answer, ends: Instant) -> Outcome {
    let left = ends.saturating_duration_since(Instant::now());
    let standing = tcc.wait(&order.number, Wait::End, left).await.ok();
    let reason = standing.as_ref().and_then(|standing| standing.reason()).unwrap_or_default().to_owned();
    Outcome { order: order.clone(), told, phase: standing.map(|standing| standing.phase()), reason }
}
