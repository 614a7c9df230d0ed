// Answers of a .pte to shards of crops, by ExecuTorch's C++ runtime: what a phone or an Arm board without torch does.
//
//   worker ENCODER.pte
//
// Speaks the protocol of ../worker.py and links the libraries that ExecuTorch's wheel ships.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr_maker.h>
#include <executorch/runtime/platform/runtime.h>

using executorch::aten::ScalarType;
using executorch::extension::Module;

namespace {

constexpr int kSide = 128;
constexpr size_t kCrop = static_cast<size_t>(kSide) * kSide * 3;

[[noreturn]] void fail(const std::string& message) {
  std::cerr << "error: " << message << std::endl;
  std::exit(2);
}

std::vector<uint8_t> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void append(std::vector<int32_t>& answers, const executorch::runtime::EValue& output) {
  const auto& tensor = output.toTensor();
  if (tensor.scalar_type() != ScalarType::Int) fail("an output is not int32");
  const int32_t* values = tensor.const_data_ptr<int32_t>();
  answers.insert(answers.end(), values, values + tensor.numel());
}

void encode(Module& module, const std::string& shard, const std::string& path) {
  std::vector<uint8_t> crops = read(shard);
  if (crops.empty() || crops.size() % kCrop != 0) fail(shard + " is no shard of crops");
  std::vector<int32_t> answers;
  for (size_t start = 0; start < crops.size(); start += kCrop) {
    auto image = executorch::extension::from_blob(crops.data() + start, {1, kSide, kSide, 3}, ScalarType::Byte);
    auto outputs = module.forward(image);
    if (!outputs.ok()) fail("the artefact does not run");
    for (const auto& output : outputs.get()) append(answers, output);
  }
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(answers.data()), answers.size() * sizeof(int32_t));
  file.close();
  if (!file) fail("cannot write " + path);
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) fail("give the .pte and nothing else");
  executorch::runtime::runtime_init();
  Module module(words[1]);
  if (module.load_forward() != executorch::runtime::Error::Ok) fail(std::string(words[1]) + " does not load");
  std::cout << "@ {\"runtime\": \"ExecuTorch " EXECUTORCH_VERSION ", C++\"}" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) fail("an order is SHARD<tab>ANSWERS");
    encode(module, line.substr(0, tab), line.substr(tab + 1));
    std::cout << "@ done" << std::endl;
  }
}
