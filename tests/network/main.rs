//! The remove hook against real links, network namespaces, firewall rules and loop devices, in private worlds, beside
//! somebody else's.
//!
//! Nobody's containers run here (tests/containers has those): a sandbox is its bundle, its network namespace, and what
//! CNI's plugins would have made for it. Each scene first looks at the others' world, then adds ours, demands that the
//! look has changed in every part (the control), runs the hook, and demands that the look is the first one again.

mod links;
mod namespaces;
mod places;
mod rules;
mod stage;
mod told;

use std::process::ExitCode;

use support::scenes::Scene;

const ALL: &[Scene] = &[
    ("everything_of_ours_goes_and_nothing_of_others", links::everything),
    ("a_foreign_port_keeps_the_bridge", || {
        links::kept_by("ip link add tap9 type veth peer name tap8|ip link set tap9 master cni0")
    }),
    ("a_foreign_address_keeps_the_bridge", || links::kept_by("ip addr add 192.0.2.1/24 dev cni0")),
    ("a_foreign_route_keeps_the_bridge", || links::kept_by("ip route add 198.51.100.0/24 dev cni0")),
    ("another_kubelet_keeps_the_bridge", links::another_kubelet),
    ("a_users_process_called_kubelet_keeps_nothing", links::a_users_kubelet),
    ("rules_that_lead_elsewhere_stay_and_are_told", links::rules_that_lead_elsewhere),
    ("every_bind_of_a_namespace_goes", namespaces::other_binds),
    ("a_bundle_that_contradicts_runcs_state_is_told", namespaces::contradiction),
    ("a_namespace_of_ours_that_nothing_claims_is_told", namespaces::unclaimed),
    ("connections_to_dead_pods_are_forgotten", namespaces::connections),
    ("a_held_namespace_stays_or_is_unlinked_and_its_holder_named", namespaces::held),
    ("loop_devices_of_ours_go_and_others_stay", places::loops),
    ("host_symlinks_and_plugin_sockets", places::files),
    ("the_survey_names_ports_volumes_and_members", told::survey),
    ("the_journal_has_a_line_for_each_step_and_one_for_the_result", told::journal),
    ("rules_without_a_program_are_not_seen_and_said_so", told::no_program),
];

fn main() -> ExitCode {
    support::scenes::main("network", ALL, |_| true)
}
