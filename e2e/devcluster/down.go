package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// down stops the cluster and proves that nothing of it is left outside the cache directory.
func down(l layout) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can take the cluster down")
	}
	unlock, err := lock(l)
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkOwner(l); err != nil {
		return err
	}
	steps := newSteps()
	if err := steps.do("stop and remove", func() error { return tearDown(l) }); err != nil {
		return err
	}
	// Buildah leaves a mount on its own store behind. One that is in use belongs to a build and stays.
	for _, point := range mountsUnder(l.cache) {
		_ = syscall.Unmount(point, 0)
	}
	if left := leftovers(l); len(left) > 0 {
		for _, thing := range left {
			say("  left: %s", thing)
		}
		return fmt.Errorf("%d things could not be removed; call make down again, and if they stay look who holds them", len(left))
	}
	say("the cluster is down; images and tools stay in %s", l.cache)
	return nil
}

// stopOrder ends clients before their server: the API server waits for open watches, and Pods must not come back.
var stopOrder = []string{"kubelet", "provisioner", "coredns", "kube-proxy", "kube-scheduler", "kube-controller-manager"}

// tearDown works on whatever is there: a well cluster, half of one, or none. It goes on after a failure, so that as
// little as possible is left, and returns all failures.
func tearDown(l layout) error {
	var failures []error
	note := func(err error) {
		if err != nil {
			failures = append(failures, err)
		}
	}
	note(stopAll(l, stopOrder, 10*time.Second))
	if containerd, known := findRecorded(l, "containerd"); known && containerd.alive() {
		note(removeContainers(l))
	}
	note(killPodProcesses())
	note(endShims(l))
	note(stopAll(l, []string{"containerd"}, 15*time.Second))
	// It may wait a minute for requests to end; etcd's data goes anyway.
	note(stopAll(l, []string{"kube-apiserver"}, 3*time.Second))
	note(stopAll(l, []string{"etcd"}, 5*time.Second))
	note(unmountUnder(l.cluster()))
	note(removeCgroups())
	note(lowerNetwork(l))
	note(removeNodeLeftovers(l))
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	for _, directory := range []string{l.run(), l.data(), l.kubelet(), l.keys(), l.logs("pods"), l.adminKubeconfig()} {
		note(os.RemoveAll(directory))
	}
	return errors.Join(failures...)
}

func stopAll(l layout, names []string, patience time.Duration) error {
	var actions []func() error
	for _, name := range names {
		if p, known := findRecorded(l, name); known {
			actions = append(actions, func() error { return p.stop(l, patience) })
		}
	}
	return atOnce(actions...)
}

// leftovers looks for everything that a cluster could have left outside the cache directory, without regard to what
// tearDown believes to have done.
func leftovers(l layout) []string {
	var left []string
	for _, p := range recorded(l) {
		if p.alive() {
			left = append(left, fmt.Sprintf("process %d (%s)", p.id, p.name))
		}
	}
	for _, p := range processesNaming(l.cluster()) {
		// Not every such process is the cluster's: a developer's kubectl or tail names the directory as well.
		if slices.Contains(expected, p.name) || p.name == "containerd-shim-runc-v2" {
			left = append(left, fmt.Sprintf("process %d (%s), whose command line names %s", p.id, p.name, l.cluster()))
		}
	}
	for _, id := range podProcesses() {
		left = append(left, fmt.Sprintf("process %d of a Pod", id))
	}
	for _, file := range podNetworkResults(l) {
		left = append(left, "file "+file)
	}
	for _, point := range mountsUnder(l.cluster()) {
		left = append(left, "mount "+point)
	}
	for _, group := range cgroupDirectories() {
		left = append(left, "control group "+group)
	}
	for _, link := range append(podLinks(), nodeLink) {
		if linkExists(link) {
			left = append(left, "network link "+link)
		}
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		if count := countRules(family); count > 0 {
			left = append(left, fmt.Sprintf("%d lines in %s-save", count, family))
		}
	}
	for _, set := range ourSets() {
		left = append(left, "IP set "+set)
	}
	return left
}
