package kubernetes

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const folder = "../../deployments/kubernetes/"

// manifests are what a kustomization makes, by kind, as YAML.
func manifests(t *testing.T, name string) map[string][]byte {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder+name)
	if err != nil {
		t.Fatal(err)
	}
	byKind := make(map[string][]byte)
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if byKind[r.GetKind()] != nil {
			t.Errorf("there are two of kind %s", r.GetKind())
		}
		byKind[r.GetKind()] = text
	}
	return byKind
}

// read reads a manifest into a type of the API, which must have all that it says.
func read[T any](t *testing.T, text []byte) T {
	t.Helper()
	var into T
	if err := yaml.UnmarshalStrict(text, &into); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	return into
}

func TestBase_is_what_the_API_takes(t *testing.T) {
	t.Parallel()
	all := manifests(t, "base")
	if len(all) != 6 {
		t.Errorf("%d kinds are made, want 6", len(all))
	}
	deployment := read[appsv1.Deployment](t, all["Deployment"])
	config := read[corev1.ConfigMap](t, all["ConfigMap"])
	service := read[corev1.Service](t, all["Service"])
	account := read[corev1.ServiceAccount](t, all["ServiceAccount"])
	budget := read[policyv1.PodDisruptionBudget](t, all["PodDisruptionBudget"])
	policy := read[networkingv1.NetworkPolicy](t, all["NetworkPolicy"])

	pod := deployment.Spec.Template.Spec
	container := pod.Containers[0]
	if *deployment.Spec.Replicas != 2 || len(pod.Containers) != 1 || pod.ServiceAccountName != account.Name || *account.AutomountServiceAccountToken {
		t.Errorf("got %d replicas of %d containers as %s", *deployment.Spec.Replicas, len(pod.Containers), pod.ServiceAccountName)
	}
	if s := container.SecurityContext; !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || s.Capabilities.Drop[0] != "ALL" ||
		!*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser != 65532 || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the container has more rights than it needs: %+v", s)
	}
	if container.LivenessProbe.HTTPGet.Path != "/healthz" || container.ReadinessProbe.HTTPGet.Path != "/readyz" || container.StartupProbe.HTTPGet.Path != "/healthz" {
		t.Errorf("the probes ask %s, %s and %s", container.LivenessProbe.HTTPGet, container.ReadinessProbe.HTTPGet, container.StartupProbe.HTTPGet)
	}
	var settings struct {
		Shutdown struct{ Grace string }
	}
	if err := yaml.Unmarshal([]byte(config.Data["ingestd.yaml"]), &settings); err != nil {
		t.Fatal(err)
	}
	grace, err := time.ParseDuration(settings.Shutdown.Grace)
	if err != nil || time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second <= grace {
		t.Errorf("a pod is killed after %d s, within shutdown.grace %v (%v)", *pod.TerminationGracePeriodSeconds, grace, err)
	}

	// What refers to something finds it.
	labels := deployment.Spec.Template.Labels
	for name, selector := range map[string]map[string]string{
		"Service": service.Spec.Selector, "Deployment": deployment.Spec.Selector.MatchLabels,
		"PodDisruptionBudget": budget.Spec.Selector.MatchLabels, "NetworkPolicy": policy.Spec.PodSelector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("%s selects everything", name)
		}
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("%s selects %s: %s, which the pods do not have", name, key, value)
			}
		}
	}
	if service.Spec.Ports[0].TargetPort.String() != container.Ports[0].Name || policy.Spec.Ingress[0].Ports[0].Port.String() != container.Ports[0].Name {
		t.Error("the Service or the NetworkPolicy names a port that the container does not have")
	}
	volumes := make(map[string]corev1.Volume)
	for _, v := range pod.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range container.VolumeMounts {
		if _, ok := volumes[m.Name]; !ok {
			t.Errorf("there is no volume %s", m.Name)
		}
	}
	if named := volumes["configuration"].ConfigMap.Name; named != config.Name || !strings.HasPrefix(named, "ingestd-") {
		t.Errorf("the pods mount the ConfigMap %s, and %s is made: a change of it would make no new pods", named, config.Name)
	}
	// Each reference of the configuration is given to the container.
	given := make(map[string]bool)
	for _, e := range container.Env {
		given["env:"+e.Name] = true
	}
	for _, item := range volumes["secrets"].Secret.Items {
		given["file:/etc/ingestd/secrets/"+item.Path] = true
	}
	for _, word := range strings.Fields(config.Data["ingestd.yaml"]) {
		if (strings.HasPrefix(word, "env:") || strings.HasPrefix(word, "file:")) && !given[word] {
			t.Errorf("the configuration refers to %s, which the container is not given", word)
		}
	}
}

func TestServiceMonitor_finds_the_Service(t *testing.T) {
	t.Parallel()
	all := manifests(t, "servicemonitor")
	service := read[corev1.Service](t, all["Service"])
	// The operator's types are a module of many; this much of them is used.
	monitor := read[struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Endpoints []struct {
				Port          string `json:"port"`
				Path          string `json:"path"`
				Authorization struct {
					Credentials corev1.SecretKeySelector `json:"credentials"`
				} `json:"authorization"`
			} `json:"endpoints"`
		} `json:"spec"`
	}](t, all["ServiceMonitor"])
	for key, value := range monitor.Spec.Selector.MatchLabels {
		if service.Labels[key] != value {
			t.Errorf("the ServiceMonitor looks for %s: %s, and the Service has %v", key, value, service.Labels)
		}
	}
	if e := monitor.Spec.Endpoints; len(e) != 1 || e[0].Port != service.Spec.Ports[0].Name || e[0].Path != "/metrics" || e[0].Authorization.Credentials.Key != "admin-token" {
		t.Errorf("got endpoints %+v", e)
	}
}
