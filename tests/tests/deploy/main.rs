//! What stands in `deploy/`, `docker-compose.yml` and the Dockerfile is true: the same settings, balancer, scrapes and
//! dashboards, with real parts, as processes and without containers.

mod balancer;
mod compose;
mod files;
mod image;
mod stack;
mod watched;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
