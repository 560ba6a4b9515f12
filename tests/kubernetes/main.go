// The published types of AdmissionReview (k8s.io/api/admission/v1) as a check from outside.
//
//	go run . requests ANNOTATIONS   prints reviews as an API server would send them, one a line
//	go run . responses              reads answers, one a line, and refuses what the types do not have
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func requests(path string) {
	raw, err := os.ReadFile(path)
	check(err)
	var cases []struct {
		Uid         string            `json:"uid"`
		Operation   string            `json:"operation"`
		DryRun      bool              `json:"dry_run"`
		Annotations map[string]string `json:"annotations"`
	}
	check(json.Unmarshal(raw, &cases))
	for _, each := range cases {
		job := batchv1.Job{
			TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
			ObjectMeta: metav1.ObjectMeta{Name: "job", Namespace: "quantum", Annotations: each.Annotations},
		}
		object, err := json.Marshal(job)
		check(err)
		review := admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
			Request: &admissionv1.AdmissionRequest{
				UID:       types.UID(each.Uid),
				Kind:      metav1.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"},
				Resource:  metav1.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"},
				Name:      "job",
				Namespace: "quantum",
				Operation: admissionv1.Operation(each.Operation),
				UserInfo:  authenticationv1.UserInfo{Username: "system:serviceaccount:quantum:runner", Groups: []string{"a"}},
				DryRun:    &each.DryRun,
			},
		}
		if each.Operation != "DELETE" {
			review.Request.Object = runtime.RawExtension{Raw: object}
		} else {
			review.Request.OldObject = runtime.RawExtension{Raw: object}
		}
		line, err := json.Marshal(review)
		check(err)
		fmt.Println(string(line))
	}
}

func responses() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var review admissionv1.AdmissionReview
		strict, err := kjson.UnmarshalStrict(lines.Bytes(), &review)
		check(err)
		for _, each := range strict {
			check(each)
		}
		if review.Response == nil || review.Kind != "AdmissionReview" || review.APIVersion != "admission.k8s.io/v1" {
			check(fmt.Errorf("no response: %s", lines.Text()))
		}
		again, err := json.Marshal(review)
		check(err)
		fmt.Println(string(again))
	}
	check(lines.Err())
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "requests" {
		requests(os.Args[2])
	} else {
		responses()
	}
}
