//! The pages: those that are generated are up to date, and what users copy from them works.

mod chart_pages;
mod clusters_page;
mod configuration_page;
mod deploy_page;
mod docs;
mod events_page;
mod failures_page;
mod fault_tests;
mod faults_page;
mod generated;
mod helm;
mod injection;
mod kubernetes_page;
mod kustomize;
mod links;
mod metrics_page;
mod migration;
mod monitoring_page;
mod named_tests;
mod operations_page;
mod readme;
mod release_files;
mod schemas;
mod settings_page;
mod waiting;
