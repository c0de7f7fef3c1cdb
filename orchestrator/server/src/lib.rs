//! API, endpoints, schedules and pages.
