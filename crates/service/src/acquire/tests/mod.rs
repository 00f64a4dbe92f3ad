mod activity;
mod attached_pods;
mod lifecycle;
mod reach;
mod usable;
