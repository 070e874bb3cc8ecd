#include "tensor/safetensors_write.h"

#include <cstring>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"

namespace fettle {

Status write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors) {
  Json header = Json::object();
  uint64_t offset = 0;
  const auto bytes_of = [](const TensorToWrite& t) {
    return static_cast<uint64_t>(element_count(t.shape).value()) *
           static_cast<uint64_t>(dtype_bits(t.dtype)) / 8;
  };
  for (const TensorToWrite& t : tensors) {
    const uint64_t bytes = bytes_of(t);
    header[t.name] = {
        {"dtype", dtype_name(t.dtype)}, {"shape", t.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = dump_json(header, -1);
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::string temporary = path + ".tmp";
  {
    TRY(FileWriter out, FileWriter::create(temporary));
    const uint64_t length = text.size();
    TRY_STATUS(out.write(&length, sizeof length));
    TRY_STATUS(out.write(text.data(), text.size()));
    for (const TensorToWrite& t : tensors) TRY_STATUS(out.write(t.data, bytes_of(t)));
    TRY_STATUS(out.close());
  }
  return rename_path(temporary, path);
}

}  // namespace fettle
