// Package kubernetes checks the manifests of deployments/kubernetes without a cluster: it builds them with kustomize, and reads them into
// the types of the Kubernetes API, strictly. It has a module of its own, so that its dependencies are not the product's.
package kubernetes
