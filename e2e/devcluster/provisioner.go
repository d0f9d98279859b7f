package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// The controller manager's own host-path provisioner makes directories that only root can write and ignores fsGroup.
// This one makes `local` volumes, to which the kubelet applies fsGroup as it does to a cloud's disks, and removes the
// data when the claim goes.

const (
	storageClass    = "standard"
	provisionerName = "stagecraft.dev/devcluster"
)

type claim struct {
	Metadata struct {
		Name, Namespace, UID string
		DeletionTimestamp    string
	}
	Spec struct {
		StorageClassName string
		VolumeName       string
		AccessModes      []string
		VolumeMode       string
		Resources        struct{ Requests map[string]string }
	}
}

type volume struct {
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		Local                         struct{ Path string }
		PersistentVolumeReclaimPolicy string
	}
	Status struct{ Phase string }
}

// serveVolumes runs until it is told to stop. Every pass looks at everything, so a lost watch loses nothing.
func serveVolumes(ctx context.Context, l layout) error {
	client, err := apiClient(l, "provisioner")
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	for _, resource := range []string{"persistentvolumeclaims", "persistentvolumes"} {
		go watch(ctx, client, "/api/v1/"+resource, changed)
	}
	for {
		if err := provision(l, client); err != nil {
			fmt.Fprintln(os.Stderr, "provision:", err)
		}
		if err := reclaim(l, client); err != nil {
			fmt.Fprintln(os.Stderr, "reclaim:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(5 * time.Second):
		}
	}
}

// watch signals each change of a resource; what changed is for the next pass to find out.
func watch(ctx context.Context, client api, path string, changed chan<- struct{}) {
	for ctx.Err() == nil {
		response, err := client.open(ctx, http.MethodGet, path+"?watch=true", "", nil)
		if err != nil {
			time.Sleep(500 * time.Millisecond)
			continue
		}
		events := bufio.NewReader(response.Body)
		for {
			if _, err := events.ReadSlice('\n'); err != nil && err != bufio.ErrBufferFull {
				break
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		response.Body.Close()
	}
}

func provision(l layout, client api) error {
	var claims struct{ Items []claim }
	if err := list(client, "/api/v1/persistentvolumeclaims", &claims); err != nil {
		return err
	}
	for _, c := range claims.Items {
		wanted := c.Spec.StorageClassName == storageClass && c.Spec.VolumeName == "" && c.Metadata.DeletionTimestamp == ""
		if !wanted || c.Spec.VolumeMode == "Block" {
			continue
		}
		name := "pvc-" + c.Metadata.UID
		path := l.volumes(name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		body, err := json.Marshal(volumeFor(c, name, path))
		if err != nil {
			return err
		}
		_, err = client.call(http.MethodPost, "/api/v1/persistentvolumes", "application/json", bytes.NewReader(body))
		if known, is := err.(apiError); err != nil && !(is && known.status == http.StatusConflict) {
			return err
		}
	}
	return nil
}

func volumeFor(c claim, name, path string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": map[string]any{
			"name": name,
			// Tells the controller manager that deleting it is ours to do.
			"annotations": map[string]string{"pv.kubernetes.io/provisioned-by": provisionerName},
		},
		"spec": map[string]any{
			"capacity":                      map[string]string{"storage": c.Spec.Resources.Requests["storage"]},
			"accessModes":                   c.Spec.AccessModes,
			"persistentVolumeReclaimPolicy": "Delete",
			"storageClassName":              storageClass,
			"volumeMode":                    "Filesystem",
			"local":                         map[string]string{"path": path},
			"claimRef": map[string]string{
				"apiVersion": "v1", "kind": "PersistentVolumeClaim",
				"namespace": c.Metadata.Namespace, "name": c.Metadata.Name, "uid": c.Metadata.UID,
			},
			"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{
				"matchExpressions": []any{map[string]any{
					"key": "kubernetes.io/hostname", "operator": "In", "values": []string{nodeName},
				}},
			}}}},
		},
	}
}

// reclaim removes the data first and the object second: a crash in between is repeated, never forgotten.
func reclaim(l layout, client api) error {
	var volumes struct{ Items []volume }
	if err := list(client, "/api/v1/persistentvolumes", &volumes); err != nil {
		return err
	}
	for _, v := range volumes.Items {
		ours := v.Metadata.Annotations["pv.kubernetes.io/provisioned-by"] == provisionerName
		if !ours || v.Status.Phase != "Released" || v.Spec.PersistentVolumeReclaimPolicy != "Delete" {
			continue
		}
		if filepath.Dir(v.Spec.Local.Path) != l.volumes() {
			return fmt.Errorf("the volume %s lies at %s, outside our directory; delete it by hand", v.Metadata.Name, v.Spec.Local.Path)
		}
		if err := os.RemoveAll(v.Spec.Local.Path); err != nil {
			return err
		}
		_, err := client.call(http.MethodDelete, "/api/v1/persistentvolumes/"+v.Metadata.Name, "", nil)
		if known, is := err.(apiError); err != nil && !(is && known.status == http.StatusNotFound) {
			return err
		}
	}
	return nil
}

func list(client api, path string, into any) error {
	content, err := client.get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}
