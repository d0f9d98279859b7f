package main

import (
	"bytes"
	"embed"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"text/template"
	"time"
)

//go:embed addons/*.yaml
var addons embed.FS

// applyAddons sends the manifests of addons/, filled in, to the API server.
func applyAddons(l layout, registryImage string) error {
	templates, err := template.ParseFS(addons, "addons/*.yaml")
	if err != nil {
		return err
	}
	values := map[string]any{
		"NodeName": nodeName, "NodeAddress": nodeAddress, "DNSAddress": dnsAddress,
		"StorageClass": storageClass, "Provisioner": provisionerName,
		"RegistryAddress": registryAddress, "RegistryImage": registryImage,
		"RegistryUser": registryUser, "RegistryData": l.registryData(),
	}
	var manifests bytes.Buffer
	for _, name := range []string{"permissions.yaml", "dns.yaml", "storage.yaml", "registry.yaml"} {
		manifests.WriteString("---\n")
		if err := templates.ExecuteTemplate(&manifests, name, values); err != nil {
			return err
		}
	}
	command := exec.Command(l.binary("kubectl"), "--kubeconfig", l.adminKubeconfig(), "apply", "--server-side", "--force-conflicts", "--filename", "-")
	command.Stdin = &manifests
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("apply the addons: %w: %s", err, said)
	}
	return nil
}

func (l layout) registryData() string { return l.cluster("registry") }

// makeRegistryData prepares the registry's directory, which outlives the cluster.
func makeRegistryData(l layout) error {
	if err := os.MkdirAll(l.registryData(), 0o755); err != nil {
		return err
	}
	return os.Chown(l.registryData(), registryUser, registryUser)
}

// registryAnswers asks through the Service's address, as pushes from this machine and containerd do.
func registryAnswers() error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	response, err := client.Get("http://" + registryAddress + ":5000/v2/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the registry answers %s", response.Status)
	}
	return nil
}
