// Certificates, keys and kubeconfigs of a test cluster.
//
// `cargo xtask cluster up` calls it: `pki FOLDER URL NODES NAME…`, where URL is that of the API
// server and the names are what its certificate holds. What is there is kept, so that a second
// call only adds what is missing (nodes). The API server and the kubelets trust the one CA.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const validity = 10 * 365 * 24 * time.Hour

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: pki FOLDER URL NODES NAME…")
		os.Exit(2)
	}
	nodes, err := strconv.Atoi(os.Args[3])
	if err == nil {
		err = run(os.Args[1], os.Args[2], nodes, os.Args[4:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "pki: %v\n", err)
		os.Exit(1)
	}
}

func run(folder, url string, nodes int, names []string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	ca, err := authority(folder)
	if err != nil {
		return fmt.Errorf("the certificate authority: %w", err)
	}
	if err := ca.leaf("apiserver", pkix.Name{CommonName: "kube-apiserver"}, names); err != nil {
		return err
	}
	if err := serviceAccounts(folder); err != nil {
		return fmt.Errorf("the key of service accounts: %w", err)
	}
	// Everything that only the machine's own root holds may do everything: with less, the
	// controller manager would wait for its service accounts (five seconds of each start).
	clients := map[string]pkix.Name{
		"admin":             {CommonName: "admin", Organization: []string{"system:masters"}},
		"apiserver-kubelet": {CommonName: "apiserver-kubelet-client", Organization: []string{"system:masters"}},
		"scheduler":         {CommonName: "system:kube-scheduler"},
		"proxy":             {CommonName: "system:kube-proxy"},
	}
	for node := 1; node <= nodes; node++ {
		name := fmt.Sprintf("n%d", node)
		clients[name] = pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}
	}
	for name, subject := range clients {
		if err := ca.leaf(name, subject, nil); err != nil {
			return fmt.Errorf("the certificate of %s: %w", name, err)
		}
		if err := ca.kubeconfig(name, url); err != nil {
			return fmt.Errorf("the kubeconfig of %s: %w", name, err)
		}
	}
	return nil
}

type certificates struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func authority(folder string) (*certificates, error) {
	ca := &certificates{folder: folder}
	if !exists(ca.path("ca.crt")) || !exists(ca.path("ca.key")) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			Subject:               pkix.Name{CommonName: "auria-test-cluster"},
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			BasicConstraintsValid: true,
			IsCA:                  true,
		}
		ca.certificate, ca.key = template, key
		if err := ca.sign("ca", template, key); err != nil {
			return nil, err
		}
	}
	certificate, err := block(ca.path("ca.crt"))
	if err != nil {
		return nil, err
	}
	if ca.certificate, err = x509.ParseCertificate(certificate); err != nil {
		return nil, err
	}
	key, err := block(ca.path("ca.key"))
	if err != nil {
		return nil, err
	}
	ca.key, err = x509.ParseECPrivateKey(key)
	return ca, err
}

// A certificate for servers where it has names, for clients where it has none.
func (ca *certificates) leaf(name string, subject pkix.Name, names []string) error {
	if exists(ca.path(name+".crt")) && exists(ca.path(name+".key")) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:     subject,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if names != nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return ca.sign(name, template, key)
}

func (ca *certificates) sign(name string, template *x509.Certificate, key *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(validity)
	signed, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, &key.PublicKey, ca.key)
	if err != nil {
		return err
	}
	if err := writeKey(ca.path(name+".key"), key); err != nil {
		return err
	}
	return writeBlock(ca.path(name+".crt"), "CERTIFICATE", signed)
}

// JSON is YAML, too.
func (ca *certificates) kubeconfig(name, url string) error {
	var parts [3][]byte
	for index, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		content, err := os.ReadFile(ca.path(file))
		if err != nil {
			return err
		}
		parts[index] = content
	}
	type object = map[string]any
	config := object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "auria-test",
		"clusters": []object{{"name": "auria-test", "cluster": object{
			"server": url, "certificate-authority-data": parts[0]}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate-data": parts[1], "client-key-data": parts[2]}}},
		"contexts": []object{{"name": "auria-test", "context": object{
			"cluster": "auria-test", "user": name, "namespace": "default"}}},
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return write(ca.path(name+".kubeconfig"), append(text, '\n'))
}

func serviceAccounts(folder string) error {
	private, public := filepath.Join(folder, "sa.key"), filepath.Join(folder, "sa.pub")
	if exists(private) && exists(public) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writeKey(private, key); err != nil {
		return err
	}
	return writeBlock(public, "PUBLIC KEY", encoded)
}

func (ca *certificates) path(name string) string { return filepath.Join(ca.folder, name) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func block(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found, _ := pem.Decode(content)
	if found == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	return found.Bytes, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writeBlock(path, "EC PRIVATE KEY", encoded)
}

func writeBlock(path, kind string, content []byte) error {
	return write(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

// Whole or not at all: a call that was cut short must not leave half a key.
func write(path string, content []byte) error {
	partial := path + ".partial"
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}
