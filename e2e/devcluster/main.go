// Command devcluster runs one real Kubernetes node on this Linux machine, without a container engine and without
// leaving anything behind. Read the files in this order:
//
//	settings.go      addresses, ranges, paths: all constants in one place
//	up.go            the steps that bring the cluster up, in order
//	down.go          the steps that take it away, and the proof that nothing is left
//	status.go        what "healthy" means
//	tools.go         building Kubernetes, CoreDNS and Helm into the cache
//	certificates.go  the certificate authority, certificates and kubeconfig files
//	processes.go     starting, recording and ending processes
//	network.go       the node's link, routes, NAT and what is to be removed again
//	containerd.go    a private containerd: configuration, images, leftovers
//	cgroups.go       the control groups under which all Pods run
//	controlplane.go  etcd, API server, controller manager, scheduler
//	node.go          kubelet, kube-proxy, CoreDNS
//	addons.go        what is applied to the API: DNS Service, storage class, image registry
//	provisioner.go   volumes for the default storage class
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: devcluster COMMAND

  up           build what is missing and start the cluster; does nothing when it runs well
  down         stop it and remove everything that it made outside the cache directory
  status       say what runs and whether it is well (exit code 1 when not)
  kubeconfig   print the path of the administrator's kubeconfig file
  tools        build Kubernetes, CoreDNS and Helm into the cache
  provisioner  (started by up) serve volumes for the default storage class
`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(interrupted, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "devcluster %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string) error {
	layout, err := findLayout()
	if err != nil {
		return err
	}
	switch command {
	case "up":
		return up(ctx, layout)
	case "down":
		return down(layout)
	case "status":
		return status(layout)
	case "kubeconfig":
		fmt.Println(layout.adminKubeconfig())
		return nil
	case "tools":
		return buildTools(ctx, layout)
	case "provisioner":
		return serveVolumes(ctx, layout)
	default:
		return fmt.Errorf("there is no such command\n%s", usage)
	}
}
