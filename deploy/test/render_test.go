// Package test holds what is in deploy/ to the types of Kubernetes and to Compose.
// It is a module of its own, so that edge does not depend on either.
package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// render renders an overlay and decodes each object into its type, which must know
// every field.
func render(t *testing.T, dir string) map[string]any {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	all, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("render %s: %v", dir, err)
	}
	objects := map[string]any{}
	for _, r := range all.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		kind := r.GetApiVersion() + " " + r.GetKind()
		var object any
		switch kind {
		case "apps/v1 DaemonSet":
			object = new(appsv1.DaemonSet)
		case "v1 Service":
			object = new(corev1.Service)
		case "v1 ServiceAccount":
			object = new(corev1.ServiceAccount)
		case "v1 ConfigMap":
			object = new(corev1.ConfigMap)
		case "v1 Secret":
			object = new(corev1.Secret)
		case "policy/v1 PodDisruptionBudget":
			object = new(policyv1.PodDisruptionBudget)
		case "networking.k8s.io/v1 NetworkPolicy":
			object = new(networkingv1.NetworkPolicy)
		default:
			t.Errorf("%s: a %s, which nobody expects", dir, kind)
			continue
		}
		if err := yaml.UnmarshalStrict(text, object); err != nil {
			t.Errorf("%s: %s %s: %v", dir, kind, r.GetName(), err)
		}
		objects[r.GetKind()] = object
	}
	return objects
}

func TestKubernetes(t *testing.T) {
	for _, dir := range []string{"base", "overlays/production", "overlays/trial"} {
		t.Run(dir, func(t *testing.T) { checkObjects(t, render(t, "../kubernetes/"+dir)) })
	}
}

func checkObjects(t *testing.T, objects map[string]any) {
	t.Helper()
	for _, kind := range []string{"DaemonSet", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"} {
		if objects[kind] == nil {
			t.Fatalf("there is no %s", kind)
		}
	}
	set := objects["DaemonSet"].(*appsv1.DaemonSet)
	labels := set.Spec.Template.Labels
	for name, selector := range map[string]map[string]string{
		"DaemonSet":           set.Spec.Selector.MatchLabels,
		"Service":             objects["Service"].(*corev1.Service).Spec.Selector,
		"PodDisruptionBudget": objects["PodDisruptionBudget"].(*policyv1.PodDisruptionBudget).Spec.Selector.MatchLabels,
		"NetworkPolicy":       objects["NetworkPolicy"].(*networkingv1.NetworkPolicy).Spec.PodSelector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("%s selects everything", name)
		}
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("%s selects %s=%s, and pods have %v", name, key, value, labels)
			}
		}
	}
	c := set.Spec.Template.Spec.Containers[0]
	if c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		t.Error("a probe or the drain before a stop is missing")
	}
	if !*c.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("the node may do more than it needs")
	}
	ports := map[string]bool{}
	for _, p := range c.Ports {
		ports[string(p.Protocol)+" "+p.Name] = p.ContainerPort > 0
	}
	for _, rule := range objects["NetworkPolicy"].(*networkingv1.NetworkPolicy).Spec.Ingress {
		for _, p := range rule.Ports {
			if !ports[string(*p.Protocol)+" "+p.Port.StrVal] {
				t.Errorf("the NetworkPolicy names a port %s that no container has", p.Port.StrVal)
			}
		}
	}
	if service := objects["Service"].(*corev1.Service); service.Spec.ClusterIP != "None" || !service.Spec.PublishNotReadyAddresses {
		t.Error("gossip finds no nodes by a service with an address of its own")
	}
}

// What edge init writes renders over each base.
func TestInitForKubernetes(t *testing.T) {
	edge := filepath.Join(t.TempDir(), "edge")
	build := exec.Command("go", "build", "-o", edge, "./cmd/edge")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("../kubernetes")); err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"base", "overlays/production", "overlays/trial"} {
		dir := filepath.Join(root, "mine-"+strings.ReplaceAll(base, "/", "-"))
		if out, err := exec.Command(edge, "init", "--shape", "kubernetes", "--dir", dir, "--base", "../"+base).CombinedOutput(); err != nil {
			t.Fatalf("edge init: %v\n%s", err, out)
		}
		objects := render(t, dir)
		checkObjects(t, objects)
		config, secret := objects["ConfigMap"].(*corev1.ConfigMap), objects["Secret"].(*corev1.Secret)
		file := filepath.Join(t.TempDir(), "edge.yaml")
		if err := os.WriteFile(file, []byte(config.Data["edge.yaml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		check := exec.Command(edge, "check", "--config", file)
		check.Env = append(os.Environ(), "EDGE_NODE=worker-1")
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("the configuration is refused: %v\n%s", err, out)
		}
		if len(secret.Data["cluster.secret"]) < 32 || len(secret.Data["admin.token"]) < 32 {
			t.Errorf("secrets: %v", secret.Data)
		}
		// Names of generated objects carry a hash, which those who use them must have.
		set := objects["DaemonSet"].(*appsv1.DaemonSet)
		var used []string
		for _, v := range set.Spec.Template.Spec.Volumes {
			if v.ConfigMap != nil {
				used = append(used, v.ConfigMap.Name)
			}
			if v.Secret != nil {
				used = append(used, v.Secret.SecretName)
			}
		}
		for _, e := range set.Spec.Template.Spec.Containers[0].Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				used = append(used, e.ValueFrom.SecretKeyRef.Name)
			}
		}
		if want := []string{config.Name, secret.Name, secret.Name}; strings.Join(used, " ") != strings.Join(want, " ") {
			t.Errorf("the pod uses %v, want %v", used, want)
		}
	}
}

// Compose v2 reads the file as Compose v1 does, which e2e starts.
func TestComposeV2(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithOsEnv, cli.WithName("edge"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) < 4 {
		t.Errorf("services: %v", project.ServiceNames())
	}
}
