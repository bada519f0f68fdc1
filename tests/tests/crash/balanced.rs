//! Replicas behind a balancer, which die one after the other under load: clients notice no more than a request that has
//! to be sent again.

use longshore_tests::backends::Backend;
use longshore_tests::balancer::Balancer;
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};

use crate::SEED;
use crate::errand::{Blow, Doors};
use crate::load::Load;

const KILLS: usize = 20;
/// One in six is a push.
const OPERATIONS: usize = 1200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_refused_while_replicas_die() {
    let mut random = Random::announced("replicas that die", SEED);
    // The collector is always at work, so that it is killed at it as well.
    let options = Options::on(Backend::S3).set("gc.interval", "50ms").set("gc.object_delay", "0s");
    let first = Server::start(options);
    let second = first.replica();
    let balancer = Balancer::in_front_of([first.address(), second.address()]);
    let mut replicas = [first, second];
    let load = Load::new(Doors::new([balancer.url()]), Blow::Replica, OPERATIONS);
    let mut kills = random.fork();
    load.run(&mut random, kill_one_after_the_other(&load, &mut replicas, &mut kills)).await;
    println!("{}", load.account());
    assert!(load.failures() > 0, "no kill was felt by anyone: what has been proved?");
    load.assert_kept(&replicas).await;
}

async fn kill_one_after_the_other(load: &Load, replicas: &mut [Server; 2], random: &mut Random) {
    let progress = &load.progress;
    for kill in 1..=KILLS {
        let (victim, pieces, alone) = (random.between(0, 2), random.between(0, 60), random.between(0, 12));
        progress.reach(kill * OPERATIONS / (KILLS + 1)).await;
        progress.pass_pieces(pieces).await;
        println!("kill {kill}: replica {victim} after {pieces} pieces, away for {alone} operations");
        progress.strike(|| replicas[victim].kill9());
        progress.pass(alone).await;
        progress.recover(|| replicas[victim].restart());
        progress.spared().await;
    }
}
