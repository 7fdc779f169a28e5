#!/bin/bash
# What spread.yaml calls around the project and around each task. Works on a fresh machine and on one restored from a state.
#
# usage: prepare-restore.sh --prepare-project | --restore-project | --prepare-each | --restore-each
set -eu

prepare_project() {
    local files name
    files=$(test-files)
    install -D -t /usr/local/bin "$files"/bin/*
    # Without a network, the first snap command would wait 35 s for the store.
    snap set system store.access=offline 2> /dev/null || true
    for name in snapd core24; do
        snap list "$name" > /dev/null 2>&1 || snap install --dangerous "$files/$name.snap"
    done
    for module in overlay bridge veth br_netfilter fuse; do
        modprobe "$module"
    done
    sysctl -q -w net.ipv4.ip_forward=1
    bystander start
}

restore_each() {
    # Both are looked at before anything is put away, and a failure of either is a failure of the task.
    local status=0
    leftovers check || status=1
    bystander check || status=1
    test-snap reset
    return $status
}

case $1 in
    --prepare-project) prepare_project ;;
    --restore-project) podmaker stop > /dev/null ;;
    --prepare-each) [ -z "${TEST_SNAP:-}" ] || test-snap ensure ;;
    --restore-each) restore_each ;;
esac
