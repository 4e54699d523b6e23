mod apps;
mod calls;
mod failures;
mod harness;
mod lists;
mod modern;
mod patience;
